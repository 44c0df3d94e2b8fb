"""What a selection keeps, handed on: every target is read back by the library that it is for."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from making import png, write
from PIL import Image

Prune = Any


@pytest.fixture
def kept(prune: Prune, pictures: Path, tmp_path: Path) -> list[str]:
    """A selection of 12 of the 40 pictures, with weights; returns their ids in the order of the data."""
    ids = pq.read_table(pictures)["id"].to_pylist()
    chosen = sorted(np.random.default_rng(0).permutation(40)[:12].tolist())
    weights = [float(i) if i in chosen else None for i in range(40)]
    columns = {"id": ids[::-1], "selected": [i in chosen for i in range(40)][::-1], "weight": weights[::-1]}
    write(tmp_path / "kept.parquet", columns)
    return [ids[i] for i in chosen]


def rows_of(pictures: Path, kept: list[str]) -> list[dict[str, Any]]:
    return [row for row in pq.read_table(pictures).to_pylist() if row["id"] in kept]


def pixels(image: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image)))


def test_ids_and_csv(prune: Prune, pictures: Path, kept: list[str], tmp_path: Path) -> None:
    done = prune("manifest", "export", "kept.parquet", "--data", pictures, "--to", "ids")
    assert done.stdout == b"kept.txt\n" and (tmp_path / "kept.txt").read_text().split() == kept
    piped = prune("manifest", "export", "kept.parquet", "--data", pictures, "--to", "csv", "-o", "-").stdout.decode()
    found = list(csv.DictReader(io.StringIO(piped)))
    assert [(r["id"], int(r["label"]), float(r["weight"])) for r in found] == [
        (row["id"], row["label"], float(int(row["id"][1:]))) for row in rows_of(pictures, kept)
    ]


def test_an_id_that_would_be_two_lines_is_refused(prune: Prune, tmp_path: Path) -> None:
    for row in ("a\nb", "a\r"):
        write(tmp_path / "d.parquet", {"id": ["x", row], "label": [0, 1]})
        failed = prune("manifest", "export", "d.parquet", "--data", "d.parquet", "--to", "ids", "-o", "i.txt", check=2)
        assert b"has a line break" in failed.stderr and not (tmp_path / "i.txt").exists()
    write(tmp_path / "d.parquet", {"id": [12, 7]})
    assert prune("manifest", "export", "d.parquet", "--data", "d.parquet", "--to", "ids", "-o", "-").stdout == b"12\n7\n"


def test_cleaned_labels_say_what_they_were(prune: Prune, tmp_path: Path) -> None:
    columns = {"id": ["a", 'b,"'], "label": ["x", "y"], "given_label": ["x", "z"], "embedding": [[1.0], [2.0]]}
    write(tmp_path / "d.parquet", columns)
    write(tmp_path / "s.parquet", {"id": ["a", 'b,"']})
    prune("manifest", "export", "s.parquet", "--data", "d.parquet", "--to", "csv", "-o", "labels.csv")
    with (tmp_path / "labels.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["id", "label", "class", "given_label"], ["a", "x", "x", "x"], ['b,"', "y", "y", "z"],
        ]  # fmt: skip


def test_datasets_reads_the_shards(prune: Prune, pictures: Path, kept: list[str], tmp_path: Path, monkeypatch: Any) -> None:
    import datasets

    monkeypatch.setattr("prune_cli.io.manifests.selected_rows._BATCH_ROWS", 5)

    features = datasets.Features(
        {"id": datasets.Value("string"), "image": datasets.Image(), "label": datasets.ClassLabel(names=["up", "down"])}
    )
    table = pq.read_table(pictures)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": b, "path": None} for b in table["image"].to_pylist()], kind)
    table = table.set_column(1, "image", images)
    metadata = {"huggingface": json.dumps({"info": {"features": features.to_dict()}})}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "hf.parquet", row_group_size=7)
    prune("manifest", "export", "kept.parquet", "--data", "hf.parquet", "--to", "parquet", "-o", "shards", "--shard-size", "1KiB")
    names = sorted(p.name for p in (tmp_path / "shards").glob("*.parquet"))
    assert len(names) > 1 and names[0] == f"train-00000-of-{len(names):05d}.parquet"
    found = datasets.load_dataset(str(tmp_path / "shards"), split="train", cache_dir=str(tmp_path / "cache"))
    assert found.features["label"].names == ["up", "down"] and isinstance(found.features["image"], datasets.Image)
    assert found["id"][:] == kept and found["weight"][:] == [float(int(i[1:])) for i in kept]
    assert (np.asarray(found[0]["image"]) == pixels(rows_of(pictures, kept)[0]["image"])).all()


def test_torchvision_reads_the_folder(prune: Prune, pictures: Path, kept: list[str], tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    prune("manifest", "export", "kept.parquet", "--data", pictures, "--to", "folder", "-o", "images")
    found = ImageFolder(str(tmp_path / "images"))
    assert found.classes == ["0", "1"] and len(found) == 12
    by_name = {Path(path).stem: (path, label) for path, label in found.samples}
    for row in rows_of(pictures, kept):
        path, label = by_name[row["id"]]
        assert label == row["label"] and Path(path).read_bytes() == row["image"]


def test_webdataset_reads_the_shards(prune: Prune, pictures: Path, kept: list[str], tmp_path: Path) -> None:
    import webdataset

    arguments = ["manifest", "export", "kept.parquet", "--data", pictures, "--to", "webdataset", "--shard-size", "2KiB"]
    prune(*arguments, "-o", "shards")
    prune(*arguments, "-o", "again")
    shards = sorted((tmp_path / "shards").glob("*.tar"))
    assert len(shards) > 1
    assert all(p.read_bytes() == (tmp_path / "again" / p.name).read_bytes() for p in shards)
    found = list(webdataset.WebDataset([str(p) for p in shards], shardshuffle=False).decode("rgb8"))
    assert [sample["json"]["id"] for sample in found] == kept
    for sample, row in zip(found, rows_of(pictures, kept), strict=True):
        assert sample["cls"] == row["label"] and sample["json"]["weight"] == float(int(row["id"][1:]))
        assert (sample["png"][..., 0] == pixels(row["image"])).all()


def test_vectors_go_to_webdataset_as_arrays(prune: Prune, vectors: Path, tmp_path: Path) -> None:
    import webdataset

    prune("manifest", "export", vectors, "--data", vectors, "--to", "webdataset", "-o", "shards")
    (shard,) = (tmp_path / "shards").glob("*.tar")
    found = list(webdataset.WebDataset([str(shard)], shardshuffle=False).decode())
    table = pq.read_table(vectors)
    assert np.array_equal([s["npy"] for s in found], np.array(table["embedding"].to_pylist(), np.float32))


def test_long_ids_fit_into_a_tar_file(prune: Prune, tmp_path: Path) -> None:
    import tarfile

    ids = ["x" * 500, "x" * 501, "a.b/c"]
    write(tmp_path / "d.parquet", {"id": ids, "label": [0, 1, 0], "embedding": [[1.0]] * 3})
    prune("manifest", "export", "d.parquet", "--data", "d.parquet", "--to", "webdataset", "-o", "s")
    with tarfile.open(tmp_path / "s" / "shard-000000.tar") as archive:
        told = [json.loads(archive.extractfile(m).read())["id"] for m in archive if m.name.endswith(".json")]  # type: ignore[union-attr]
        assert told == ids and len(set(archive.getnames())) == 9


def test_datacomp_uids(prune: Prune, tmp_path: Path) -> None:
    uids = ["00000000000000020000000000000001", "ffffffffffffffff0000000000000000", "00000000000000010000000000000005"]
    write(tmp_path / "d.parquet", {"uid": uids, "label": [0, 1, 0], "embedding": [[1.0]] * 3})
    write(tmp_path / "s.parquet", {"id": uids})
    prune("manifest", "export", "s.parquet", "--data", "d.parquet", "--id-column", "uid", "--to", "uids", "-o", "u.npy")
    found = np.load(tmp_path / "u.npy")
    assert found.dtype == np.dtype("u8,u8")
    assert found.tolist() == [(1, 5), (2, 1), (2**64 - 1, 0)]
    write(tmp_path / "t.parquet", {"id": ["zz"]})
    write(tmp_path / "e.parquet", {"id": ["zz"], "label": [0], "embedding": [[1.0]]})
    failed = prune("manifest", "export", "t.parquet", "--data", "e.parquet", "--to", "uids", check=2)
    assert b"no uid of 32" in failed.stderr and not (tmp_path / "t.npy").exists()


def test_ultralytics_paths_stay_inside_the_root(prune: Prune, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "photos" / "a").mkdir(parents=True)
    for name in ("1.png", "2.png"):
        (tmp_path / "photos" / "a" / name).write_bytes(png(np.zeros((2, 2), np.uint8)))
    write(tmp_path / "d.parquet", {"id": ["x", "y"], "label": [0, 1], "image": ["a/1.png", "a/2.png"]})
    write(tmp_path / "s.parquet", {"id": ["y"]})
    more = ["--data", "d.parquet", "--root", "photos"]
    prune("manifest", "export", "s.parquet", *more, "--to", "ultralytics", "-o", "train.txt")
    assert (tmp_path / "train.txt").read_text() == f"{(tmp_path / 'photos' / 'a' / '2.png').resolve()}\n"
    prune("manifest", "export", "s.parquet", *more, "--to", "folder", "-o", "f")
    assert [p.name for p in (tmp_path / "f").rglob("*.png")] == ["y.png"]
    write(tmp_path / "d.parquet", {"id": ["x", "y"], "label": [0, 1], "image": ["a/1.png", "../kept.parquet"]})
    write(tmp_path / "kept.parquet", {"id": ["y"]})
    for to in ("ultralytics", "folder", "webdataset"):
        failed = prune("manifest", "export", "s.parquet", *more, "--to", to, "-o", "out", check=2)
        assert b"outside the root" in failed.stderr and not (tmp_path / "out").exists()
    inside = prune("manifest", "export", pictures, "--data", pictures, "--to", "ultralytics", "-o", "p.txt", check=2)
    assert b"has no path" in inside.stderr


def test_names_of_the_data_neither_leave_the_folder_nor_meet(prune: Prune, tmp_path: Path) -> None:
    ids = ["../../evil", "a/b", "a?b", "A_B", "", "x" * 500]
    images = [png(np.full((2, 2), i, np.uint8)) for i in range(6)]
    columns = {"id": ids, "label": ["../up", ".. up", "ok", "ok", "ok", "OK"], "image": images}
    write(tmp_path / "d.parquet", columns)
    prune("manifest", "export", "d.parquet", "--data", "d.parquet", "--to", "folder", "-o", "f")
    files = list((tmp_path / "f").rglob("*.png"))
    assert len(files) == 6 and len({str(p).lower() for p in files}) == 6
    assert {p.name for p in tmp_path.iterdir()} == {"d.parquet", "f"}
    assert sorted(p.read_bytes() for p in files) == sorted(images)
    assert len({p.parent for p in files}) == 4


def test_what_cannot_be_is_refused_and_nothing_is_left(
    prune: Prune, pictures: Path, vectors: Path, kept: list[str], tmp_path: Path
) -> None:
    before = {p.name for p in tmp_path.iterdir()}
    for given, said in (
        (["kept.parquet", "--data", pictures, "--to", "tfrecord"], b"webdataset"),
        (["kept.parquet", "--data", vectors, "--to", "ids"], b"not in"),
        ([vectors, "--data", vectors, "--to", "folder"], b"has no picture"),
    ):
        assert said in prune("manifest", "export", *given, check=2).stderr
        assert {p.name for p in tmp_path.iterdir()} == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    arguments = ["manifest", "export", "kept.parquet", "--data", pictures, "--to", "folder"]
    assert b"is no export" in prune(*arguments, "-o", "mine", "--force", check=2).stderr
    assert (tmp_path / "mine" / "thesis.txt").exists()
    prune(*arguments, "-o", "ours")
    assert b"exists already" in prune(*arguments, "-o", "ours", check=2).stderr
    prune(*arguments, "-o", "ours", "--force")
    plan = json.loads(prune(*arguments, "--plan", "--json").stdout)["plan"]
    assert plan["rows"] == 12 and plan["disk_bytes"] > 0
