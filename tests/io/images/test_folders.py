"""Folders of images: every layout, the fixed order, what is passed over, and errors that name the cure."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from prune_cli.core.errors import InputError
from prune_cli.io.images.folders import FolderListing, discover_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that is still empty, with something beside it that is not to be reached."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.png").write_bytes(b"")
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def put(folder: Path, *names: str) -> None:
    """Make files; what they hold does not matter here."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def error(folder: Path, **options: str) -> str:
    """Return the message of the error, which has a cure."""
    with pytest.raises(InputError) as caught:
        discover_folder(folder, **options)
    assert caught.value.cure
    return caught.value.message.replace(str(folder), "DATA")


def named(listing: FolderListing) -> list[tuple[str, str]]:
    """Return (path, class name) of every image."""
    return [(path, listing.class_names[label]) for path, label in zip(listing.paths, listing.labels, strict=True) if label is not None]


def test_one_folder_per_class(folder: Path) -> None:
    """Classes by name, files by folder and name: the order of torchvision's ImageFolder; .JPG is an image too."""
    put(folder, "dog/2.png", "dog/10.JPG", "cat/z.webp", "cat/deep/a.tiff", "cat/deep/more/b.gif", "cat/deep-er/c.png", "ant eater/ü.bmp")
    listing = discover_folder(folder)
    assert named(listing) == [
        ("ant eater/ü.bmp", "ant eater"),
        ("cat/z.webp", "cat"),
        ("cat/deep/a.tiff", "cat"),
        ("cat/deep-er/c.png", "cat"),
        ("cat/deep/more/b.gif", "cat"),
        ("dog/10.JPG", "dog"),
        ("dog/2.png", "dog"),
    ]
    assert listing.labels == [0, 1, 1, 1, 1, 2, 2] and listing.class_names == ["ant eater", "cat", "dog"]
    assert listing.splits is None and listing.ids == listing.paths
    assert not listing.skipped and not listing.notes and not listing.metadata_files


def test_what_is_passed_over_is_counted(folder: Path) -> None:
    """Hidden files silently; other extensions, loose images, links out and links to folders with their number."""
    put(folder, "a/1.png", "a/.hidden.png", ".git/x/1.png", "a/notes.txt", "a/more.TXT", "README", "loose.png", "b/x.txt")
    (folder / "a" / "out.png").symlink_to(folder.parent / "outside" / "secret.png")
    (folder / "a" / "in.png").symlink_to("1.png")
    (folder / "a" / "gone.png").symlink_to("nowhere.png")
    (folder / "a" / "up").symlink_to(folder)
    (folder / "c").symlink_to(folder.parent / "outside")
    os.mkfifo(folder / "a" / "pipe.png")
    listing = discover_folder(folder)
    assert listing.paths == ["a/1.png", "a/in.png"]
    assert listing.skipped == {
        ".txt": 3,
        "images outside any class folder": 1,
        "links out of the folder": 2,
        "links to folders": 2,
        "pipes and devices": 1,
        "without an extension": 1,
    }
    assert listing.notes[0] == "'b' holds no images and is no class"
    assert len(listing.notes) == 2 and "their images are not read: a/up, c (" in listing.notes[1]


@pytest.mark.parametrize("names", [("train", "test"), ("Train", "validation"), ("val", "dev")])
def test_split_folders(folder: Path, names: tuple[str, str]) -> None:
    """Splits by name, within each class after class; a class missing from one split keeps its number."""
    first, second = sorted(names)
    put(folder, f"{first}/a/x/1.png", f"{first}/a/2.png", f"{first}/a-b/3.png", f"{second}/c/4.png", f"{second}/5.png")
    listing = discover_folder(folder)
    assert listing.paths == [f"{first}/a/2.png", f"{first}/a/x/1.png", f"{first}/a-b/3.png", f"{second}/c/4.png"]
    assert listing.labels == [0, 0, 1, 2] and listing.class_names == ["a", "a-b", "c"]
    assert listing.splits == [first, first, first, second]
    assert listing.skipped == {"images outside any class folder": 1}


def test_a_class_may_be_called_train(folder: Path) -> None:
    """Beside cars and planes, with images right inside, it is one."""
    put(folder, "car/1.png", "plane/1.png", "train/1.png")
    assert discover_folder(folder).class_names == ["car", "plane", "train"]


def test_splits_beside_other_folders(folder: Path) -> None:
    """Not guessed at; a folder without images is no matter."""
    put(folder, "train/a/1.png", "test/a/1.png", "docs/readme.txt")
    assert discover_folder(folder).splits == ["test", "train"]
    put(folder, "extra/1.png")
    assert error(folder) == "DATA has the split folder 'test' beside 'extra', which is none"


def test_no_images_no_classes(folder: Path) -> None:
    """The message says what there is instead."""
    assert error(folder / "nowhere") == "DATA is not a folder"
    assert error(folder) == "DATA holds no images"
    put(folder, "a/1.npy", "a/2.npy", "b/notes")
    assert error(folder) == "DATA holds no images but 2 .npy, 1 without an extension"
    put(folder, "1.png", "2.png")
    assert error(folder) == "DATA holds 2 image(s) and no class folders"
    put(folder, "train/1.png")
    assert error(folder) == "the split folder 'train' of DATA holds images and no class folders"


def test_names_that_are_not_utf8(folder: Path) -> None:
    """An id must be text; the message shows the bytes."""
    put(folder, "a/1.png")
    (folder / "a" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    assert error(folder) == r"a name in DATA/a is not UTF-8: b'caf\xe9.png'"


def test_metadata_csv(folder: Path) -> None:
    """The order of the file; names sorted; other columns, other images and empty labels are said."""
    put(folder, "b.png", "sub/a.png", "c.png", "unlisted.png", "license.txt")
    (folder / "metadata.csv").write_text('file_name,label,caption\nb.png,dog,"one, two"\n\nsub/a.png,cat,\nc.png,,x\n')
    listing = discover_folder(folder)
    assert listing.paths == ["b.png", "sub/a.png", "c.png"] and listing.labels == [1, 0, None]
    assert listing.class_names == ["cat", "dog"] and listing.splits is None and listing.metadata_files == ["metadata.csv"]
    assert listing.notes == ["columns not used: caption", "1 image(s) have no label"]
    assert listing.skipped == {".txt": 1, "images that no metadata lists": 1}


def test_metadata_jsonl(folder: Path) -> None:
    """Integer labels are names too, ordered as numbers; a byte order mark and blank lines do no harm."""
    put(folder, "a.png", "b.png", "c.png")
    rows = [{"file_name": "a.png", "y": 10}, {"file_name": "b.png", "y": 9}, {"file_name": "./c.png", "y": "10"}]
    text = "\ufeff" + "\n\n".join(json.dumps(row) for row in rows)
    (folder / "metadata.jsonl").write_text(text, encoding="utf-8")
    listing = discover_folder(folder, label_column="y")
    assert listing.paths == ["a.png", "b.png", "c.png"]
    assert listing.class_names == ["9", "10"] and listing.labels == [1, 0, 1]


def test_metadata_in_each_split(folder: Path) -> None:
    """Names are relative to their metadata file; classes are those of all splits."""
    put(folder, "train/images/1.png", "test/1.png")
    (folder / "train" / "metadata.csv").write_text("file_name,label\nimages/1.png,b\n")
    (folder / "test" / "metadata.jsonl").write_text('{"file_name": "1.png", "label": "a"}\n')
    listing = discover_folder(folder)
    assert listing.paths == ["test/1.png", "train/images/1.png"] and listing.splits == ["test", "train"]
    assert listing.labels == [0, 1] and listing.class_names == ["a", "b"]
    assert listing.metadata_files == ["test/metadata.jsonl", "train/metadata.csv"]
    (folder / "metadata.csv").write_text("file_name,label\n")
    assert error(folder) == "DATA has metadata.csv and its folder 'test' has metadata too"


def test_metadata_above_splits(folder: Path) -> None:
    """Where every listed path begins with the folder of a split, that is the split."""
    put(folder, "train/1.png", "val/1.png")
    (folder / "metadata.csv").write_text("file_name,label\nval/1.png,a\ntrain/1.png,b\n")
    assert discover_folder(folder).splits == ["val", "train"]
    put(folder, "2.png")
    with (folder / "metadata.csv").open("a") as file:
        file.write("2.png,a\n")
    assert discover_folder(folder).splits is None


def test_metadata_paths(folder: Path) -> None:
    """Detours that end inside are made straight; what is outside, absent or no file is an error with its line."""
    put(folder, "sub/a.png")
    table = folder / "metadata.csv"
    for name in ("sub/../sub/a.png", "sub//a.png", str(folder / "sub" / "a.png")):
        table.write_text(f"file_name,label\n{name},x\n")
        assert discover_folder(folder).paths == ["sub/a.png"]
    table.write_text("file_name,label\nsub/a.png,x\nsub/./a.png,y\n")
    assert error(folder) == "DATA/metadata.csv line 3 lists 'sub/a.png', which DATA/metadata.csv line 2 lists already"
    (folder / "link.png").symlink_to(folder.parent / "outside" / "secret.png")
    for name, what in (
        ("../outside/secret.png", "leads outside the root folder DATA"),
        ("link.png", "leads outside the root folder DATA"),
        ("sub", "is a folder, not a file"),
    ):
        table.write_text(f"file_name,label\n{name},x\n")
        assert error(folder) == f"DATA/metadata.csv line 2: '{name}' {what}"
    table.write_text("file_name,label\ngone.png,x\n")
    assert error(folder) == "DATA/metadata.csv line 2: 'gone.png': no such file or directory"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.png,x\n", "DATA/metadata.csv line 2 has no 'file_name'; it has path, label"),
        ("file_name,class\na.png,x\n", "DATA/metadata.csv line 2 has no 'label'; it has file_name, class"),
        ("file_name,label\n,x\n", "DATA/metadata.csv line 2 has no file_name"),
        ("file_name,label\na.png\n", "DATA/metadata.csv line 2 has 1 cells and the header 2"),
        ("file_name,label,label\na.png,x,y\n", "DATA/metadata.csv has two columns of one name"),
        ("file_name,label\n", "the metadata in DATA lists no images"),
        ("", "the metadata in DATA lists no images"),
        ('file_name,label\n"a.png', "DATA/metadata.csv is no comma-separated values: unexpected end of data"),
        (b"file_name,label\n\xff,x\n", "DATA/metadata.csv is not UTF-8: invalid start byte at byte 16"),
    ],
)  # fmt: skip
def test_bad_csv(folder: Path, text: str | bytes, message: str) -> None:
    """Each with the file, the line and what was found."""
    put(folder, "a.png")
    (folder / "metadata.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert error(folder) == message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1 is not a JSON object"),
        ("[" * 100_000, "line 1 is not a JSON object"),
        ('["a.png"]', "line 1 is not a JSON object"),
        ("{}", "line 1 has no 'file_name'; it has nothing"),
        ('{"file_name": "a.png"}', "line 1 has no 'label'; it has file_name"),
        ('{"file_name": 7, "label": "x"}', "line 1 has no file_name"),
        ('{"file_name": "a.png", "label": [1]}', "line 1: the label [1] is neither a string nor an integer"),
        ('{"file_name": "a.png", "label": true}', "line 1: the label True is neither a string nor an integer"),
        ('{"file_name": "\\ud800", "label": "x"}', "line 1: the name '\\ud800' is not UTF-8"),
    ],
)
def test_bad_jsonl(folder: Path, line: str, message: str) -> None:
    """Each with the file, the line and what was found."""
    put(folder, "a.png")
    (folder / "metadata.jsonl").write_text(line + "\n")
    assert error(folder) == f"DATA/metadata.jsonl {message}"


def test_two_metadata_files(folder: Path) -> None:
    """Which of them would hold is not guessed at."""
    put(folder, "a.png")
    for name in ("metadata.csv", "metadata.jsonl"):
        (folder / name).write_text("")
    assert error(folder) == "DATA has both metadata.csv and metadata.jsonl"


def test_order_does_not_depend_on_the_file_system(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same listing whatever order the entries of a folder come in."""
    put(folder, *(f"{name}/{number}/{number}.png" for name in "cab" for number in range(5)))
    expected = discover_folder(folder)
    scandir = os.scandir

    class Reversed:
        def __init__(self, path: Path) -> None:
            self.entries = scandir(path)

        def __enter__(self) -> list[os.DirEntry[str]]:
            return list(self.entries)[::-1]

        def __exit__(self, *exception: object) -> None:
            self.entries.close()

    monkeypatch.setattr(os, "scandir", Reversed)
    assert discover_folder(folder) == expected


@pytest.mark.parametrize("name", ["a.jfif", "a.jpe", "a.JIF", "a.pjp", "a.pjpeg", "a.dib", "a.apng"])
def test_every_ending_of_a_format_that_is_decoded_is_an_image(folder: Path, name: str) -> None:
    put(folder, f"cat/{name}", "dog/b.png", "dog/c.ppm")
    listing = discover_folder(folder)
    assert len(listing.paths) == 2 and listing.skipped == {".ppm": 1}


@pytest.mark.parametrize(("train", "test"), [("Training", "Testing"), ("train", "eval"), ("TRAIN", "evaluation")])
def test_the_names_of_splits_that_others_use(folder: Path, train: str, test: str) -> None:
    put(folder, f"{train}/glioma/a.png", f"{train}/notumor/a.png", f"{test}/glioma/b.png")
    listing = discover_folder(folder)
    assert listing.class_names == ["glioma", "notumor"] and set(listing.splits or ()) == {train, test}


def test_links_to_class_folders_are_named(folder: Path) -> None:
    put(folder, "bird/a.png", "../outside/cat/a.png")
    (folder / "cat").symlink_to(folder.parent / "outside" / "cat")
    listing = discover_folder(folder)
    assert listing.skipped == {"links to folders": 1} and len(listing.notes) == 1
    assert "not followed" in listing.notes[0] and listing.notes[0].count("cat")


def test_one_folder_above_the_classes_is_said(folder: Path) -> None:
    put(folder, "images/glioma/a.png", "images/notumor/a.png")
    (note,) = discover_folder(folder).notes
    assert "the only class, 'images', holds folders alone (glioma, notumor)" in note
    put(folder, "more/b.png")
    assert discover_folder(folder).notes == []
