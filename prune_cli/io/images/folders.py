"""Folders of images as datasets: which files, which labels, which splits. No image is opened here."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from prune_cli.core.errors import InputError
from prune_cli.io.images.metadata import METADATA, metadata_file, read_metadata
from prune_cli.io.stores.inside import BadFile, resolve_inside, trouble_of

EXTENSIONS = frozenset(
    (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jif", ".jfif", ".pjpeg", ".pjp", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif")
)
"""Endings of the six formats that are decoded; files of others are counted and told."""

SPLITS = ("train", "training", "test", "testing", "eval", "evaluation", "val", "valid", "validation", "dev")
"""Names of folders that are splits, in any case: those that Hugging Face knows."""

_LAYOUTS = "put the images into one folder per class, or beside a metadata.csv with the columns file_name and label"


@dataclass(frozen=True)
class FolderListing:
    """The images of a folder, in a fixed order.

    Args:
        paths: where each image lies, relative to the folder, with forward slashes; these are the ids too.
        labels: the class of each, as its place in ``class_names``; None where a metadata file has none for it.
        splits: the split of each, or None where the folder has no splits.
        class_names: names of the classes, sorted.
        skipped: what was passed over and how often, as ``{".txt": 3}``.
        notes: what the user should know, one line each.
        metadata_files: paths of the metadata files that were read, relative to the folder.
    """

    paths: list[str]
    labels: list[int | None]
    splits: list[str] | None
    class_names: list[str]
    skipped: dict[str, int]
    notes: list[str]
    metadata_files: list[str] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        """The id of each image: its relative path."""
        return self.paths


def discover_folder(folder: Path, label_column: str = "label") -> FolderListing:
    """Return the images under a folder, with labels from the names of class folders or from metadata files.

    ==========================  ====================================================================================
    layout                      read as
    ==========================  ====================================================================================
    ``CLASS/**/image``          one folder per class, in the order of torchvision's ``ImageFolder``
    ``SPLIT/CLASS/**/image``    the same in each folder that is named as a split, see `SPLITS`
    ``metadata.csv`` or         Hugging Face's ``imagefolder``: columns ``file_name`` and ``label``, in the order of the
    ``metadata.jsonl``          file; where all names begin with the folder of a split, these are the splits
    ``SPLIT/metadata.csv`` ...  the same in each split
    ==========================  ====================================================================================

    Hidden files and folders are not looked at. Files without an image's extension, links out of the folder and links to
    folders are passed over; which and how many is in ``skipped``, so that every file seen is in a row or counted there.

    Args:
        label_column: name of the label's column in metadata files.
    Raises:
        InputError: no folder, no images, no classes, a name that is not UTF-8, splits beside other folders; a metadata
            file that cannot be read, lacks a column, or lists a file that is absent, outside the folder, or listed
            before.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder", "give the folder that holds the images")
    top = _entries(folder)
    here = [name for name in METADATA if name in top.files]
    split_folders = [name for name in top.folders if name.lower() in SPLITS]
    below = [name for name in split_folders if any(kind in _entries(folder / name).files for kind in METADATA)]
    if here and below:
        raise InputError(f"{folder} has {here[0]} and its folder '{below[0]}' has metadata too", "keep one of the two")
    if here or below:
        return _listed(folder, [""] if here else below, label_column)
    return _by_class(folder, top, split_folders)


class _Entries(NamedTuple):
    """The visible entries of one folder by kind, each sorted by name."""

    files: list[str]
    folders: list[str]
    linked_files: list[str]
    linked_folders: list[str]
    others: list[str]


def _entries(folder: Path) -> _Entries:
    found = _Entries([], [], [], [], [])
    try:
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {trouble_of(error)}", "check its permissions") from None
    for entry in entries:
        name = entry.name
        if name.startswith("."):
            continue
        if not _is_utf8(name):
            raise InputError(
                f"a name in {folder} is not UTF-8: {os.fsencode(name)!r}",
                "rename it; convmv -f latin1 -t utf8 -r FOLDER lists what it would rename",
            )
        if entry.is_symlink():
            (found.linked_folders if entry.is_dir() else found.linked_files).append(name)
        elif entry.is_dir():
            found.folders.append(name)
        else:
            (found.files if entry.is_file() else found.others).append(name)
    return found


class _Walk:
    """Image files below a folder, and counts of what is passed over."""

    def __init__(self, root: Path, uncounted: Sequence[str] = ()) -> None:
        self.root = root
        self.skipped: Counter[str] = Counter()
        self.linked: list[str] = []
        self._uncounted = uncounted

    def images(self, start: str) -> list[str]:
        """Return the paths below ``start``: folder after folder by path, in each file after file by name."""
        found: list[tuple[str, _Entries]] = []
        ahead = [start]
        while ahead:
            folder = ahead.pop()
            entries = _entries(self.root / folder)
            found.append((folder, entries))
            ahead += [_join(folder, name) for name in entries.folders]
        found.sort(key=lambda pair: pair[0])
        return [_join(folder, name) for folder, entries in found for name in self.images_in(folder, entries)]

    def images_in(self, folder: str, entries: _Entries) -> list[str]:
        """Return the names of the images in one folder."""
        self.skipped["links to folders"] += len(entries.linked_folders)
        self.linked += [_join(folder, name) for name in entries.linked_folders]
        self.skipped["pipes and devices"] += len(entries.others)
        names = [name for name in entries.files if self._is_named_as_image(name)]
        for name in entries.linked_files:
            if self._is_named_as_image(name):
                try:
                    resolve_inside(self.root, _join(folder, name))
                    names.append(name)
                except BadFile:
                    self.skipped["links out of the folder"] += 1
        return sorted(names) if entries.linked_files else names

    def counts(self) -> dict[str, int]:
        """Return what was passed over, by name."""
        return {kind: count for kind, count in sorted(self.skipped.items()) if count}

    def _is_named_as_image(self, name: str) -> bool:
        extension = os.path.splitext(name)[1].lower()  # noqa: PTH122 -- no Path object a file
        if extension in EXTENSIONS:
            return True
        if name not in self._uncounted:
            self.skipped[extension or "without an extension"] += 1
        return False


def _by_class(folder: Path, top: _Entries, split_folders: Sequence[str]) -> FolderListing:
    walk = _Walk(folder)
    images = {name: walk.images(name) for name in top.folders}
    loose = len(walk.images_in("", top))
    filled = [name for name in top.folders if images[name]]
    if not filled:
        others = ", ".join(f"{count} {kind}" for kind, count in walk.counts().items())
        if loose:
            raise InputError(f"{folder} holds {loose} image(s) and no class folders", _LAYOUTS)
        raise InputError(f"{folder} holds no images{f' but {others}' if others else ''}", _LAYOUTS)
    splits = [name for name in split_folders if images[name]]
    by_split = splits == filled
    if not by_split and any(path.count("/") > 1 for name in splits for path in images[name]):
        other = next(name for name in filled if name not in splits)
        raise InputError(
            f"{folder} has the split folder '{splits[0]}' beside '{other}', which is none",
            f"move one of them away; splits are named {', '.join(SPLITS)}",
        )
    paths: list[str] = []
    classes: list[str] = []
    split_of: list[str] = []
    for name in filled:
        inside = [path for path in images[name] if path.count("/") > 1] if by_split else images[name]
        loose += len(images[name]) - len(inside)
        for path in sorted(inside, key=_split_class) if by_split else inside:  # a stable sort: class after class
            paths.append(path)
            classes.append(_split_class(path) if by_split else name)
            split_of.append(name)
    if not paths:
        raise InputError(f"the split folder '{splits[0]}' of {folder} holds images and no class folders", _LAYOUTS)
    walk.skipped["images outside any class folder"] = loose
    notes = [f"'{name}' holds no images and is no class" for name in top.folders if not images[name]]
    if walk.linked:
        notes.append(
            f"links to folders are not followed, and their images are not read: {', '.join(walk.linked[:5])}"
            f"{', ...' if len(walk.linked) > 5 else ''} (copy the folders, or name the images in a metadata.csv)"
        )
    notes += _holding_folders(filled, images, by_split)
    class_names = sorted(set(classes))
    code = {name: place for place, name in enumerate(class_names)}
    labels: list[int | None] = [code[name] for name in classes]
    return FolderListing(paths, labels, split_of if by_split else None, class_names, walk.counts(), notes)


def _holding_folders(filled: Sequence[str], images: Mapping[str, Sequence[str]], by_split: bool) -> list[str]:
    """Say where folders that became classes hold nothing but folders, which may be the classes."""
    if by_split:
        return []
    holding = [name for name in filled if all(path.count("/") > 1 for path in images[name])]
    inside = sorted({_split_class(path) for name in holding for path in images[name]})
    if len(holding) < len(filled) or len(inside) < 2:
        return []
    what = f"the only class, '{holding[0]}'," if len(filled) == 1 else f"every class ({', '.join(holding[:5])})"
    shown = ", ".join(inside[:5]) + (", ..." if len(inside) > 5 else "")
    return [f"{what} holds folders alone ({shown}): if these are the classes, name the folder above them"]


def _split_class(path: str) -> str:
    return path.split("/", 2)[1]


def _listed(folder: Path, places: Sequence[str], label_column: str) -> FolderListing:
    paths: list[str] = []
    texts: list[str | None] = []
    seen: dict[str, str] = {}
    ignored: dict[str, None] = {}
    tables: list[str] = []
    for place in places:
        table = metadata_file(folder / place)
        tables.append(_join(place, table.name))
        for where, row in read_metadata(table, label_column):
            name = row["file_name"]
            if not isinstance(name, str) or not name:
                raise InputError(f"{where} has no file_name", "name the image, relative to the metadata file")
            path = _listed_path(folder, place, name, where)
            if path in seen:
                raise InputError(f"{where} lists '{path}', which {seen[path]} lists already", "keep one of the two rows")
            seen[path] = where
            paths.append(path)
            texts.append(_label_text(row[label_column], where))
            ignored.update(dict.fromkeys(key for key in row if key not in ("file_name", label_column)))
    if not paths:
        raise InputError(f"the metadata in {folder} lists no images", "give it one row an image")
    walk = _Walk(folder, uncounted=METADATA)
    walk.skipped["images that no metadata lists"] = sum(path not in seen for path in walk.images(""))
    class_names = _sorted_names({text for text in texts if text is not None})
    code = {name: number for number, name in enumerate(class_names)}
    labels = [None if text is None else code[text] for text in texts]
    firsts = [path.split("/", 1)[0] if "/" in path else "" for path in paths]
    splits = firsts if all(first.lower() in SPLITS for first in firsts) else None
    notes = [f"columns not used: {', '.join(sorted(ignored))}"] if ignored else []
    if None in labels:
        notes.append(f"{labels.count(None)} image(s) have no label")
    return FolderListing(paths, labels, splits, class_names, walk.counts(), notes, tables)


def _listed_path(folder: Path, place: str, name: str, where: str) -> str:
    """Return the path of a listed image, relative to the folder and without detours."""
    path = name if name.startswith("/") else _join(place, name)
    if not _is_utf8(name):
        raise InputError(f"{where}: the name {name!r} is not UTF-8", "rename the file")
    try:
        real = resolve_inside(folder, path)
    except BadFile as reason:
        raise InputError(f"{where}: {reason}", "correct the row, or put the image there") from None
    direct = all(part not in ("", ".", "..") for part in path.split("/"))
    return path if direct else real.relative_to(folder.resolve()).as_posix()


def _label_text(label: Any, where: str) -> str | None:
    if label is None or label == "":
        return None
    if isinstance(label, bool) or not isinstance(label, str | int):
        raise InputError(f"{where}: the label {label!r} is neither a string nor an integer", "give one class an image")
    return str(label)


def _sorted_names(names: set[str]) -> list[str]:
    """Return class names in order: as numbers where all are, so that 10 comes after 9."""
    if all(re.fullmatch("-?[0-9]{1,18}", name) for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _is_utf8(name: str) -> bool:
    return name == name.encode(errors="replace").decode()
