"""Making a manifest of a folder, and checking manifests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from making import png, write

PIXELS = np.random.default_rng(0).integers(0, 255, (6, 8, 8)).astype(np.uint8)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six pictures in two classes, and a file that is none."""
    folder = tmp_path / "photos"
    for i, pixels in enumerate(PIXELS):
        place = folder / ("cat" if i % 2 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i}.png").write_bytes(png(pixels))
    (folder / "cat" / "notes.txt").write_text("not a picture")
    return folder


def test_a_folder_becomes_a_manifest_that_every_command_reads(prune: Any, photos: Path, tmp_path: Path) -> None:
    assert prune("manifest", "create", photos).stdout == b"photos.parquet\n"
    table = pq.read_table(tmp_path / "photos.parquet")
    assert table.column("id").to_pylist() == ["cat/1.png", "cat/3.png", "cat/5.png", "dog/0.png", "dog/2.png", "dog/4.png"]
    assert table.column("label").to_pylist() == [0, 0, 0, 1, 1, 1]
    assert table.column("image")[0].as_py() == {"bytes": png(PIXELS[1]), "path": "cat/1.png"}
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["label"] == {"names": ["cat", "dog"], "_type": "ClassLabel"} and features["image"] == {"_type": "Image"}
    prune("manifest", "check", "photos.parquet")
    prune("score", "photos.parquet")
    before = (tmp_path / "photos.parquet").read_bytes()
    assert b"exists already" in prune("manifest", "create", photos, check=2).stderr
    prune("manifest", "create", photos, "--force")
    assert (tmp_path / "photos.parquet").read_bytes() == before


def test_paths_alone_give_the_same_scores(prune: Any, photos: Path, tmp_path: Path) -> None:
    prune("manifest", "create", photos, "-o", "bytes.parquet")
    prune("manifest", "create", photos, "--paths", "-o", "paths.parquet")
    assert pq.read_table(tmp_path / "paths.parquet").column("image")[0].as_py() == {"bytes": None, "path": "cat/1.png"}
    for name in ("bytes", "paths"):
        prune("score", f"{name}.parquet", "--root", photos)
    scores = [pq.read_table(tmp_path / f"{n}.scores.parquet") for n in ("bytes", "paths")]
    assert scores[0].equals(scores[1])


def test_a_plan_writes_nothing(prune: Any, photos: Path, tmp_path: Path) -> None:
    plan = json.loads(prune("manifest", "create", photos, "--plan", "--json").stdout)["plan"]
    assert plan["rows"] == 6 and plan["classes"] == 2 and plan["disk_bytes"] > 6 * len(png(PIXELS[0])) - 100
    assert [p.name for p in tmp_path.iterdir()] == ["photos"]


def test_an_empty_folder_and_none(prune: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "nowhere"):
        assert name.encode() in prune("manifest", "create", name, check=2).stderr


def test_check_is_a_verdict_with_every_bad_row(prune: Any, tmp_path: Path) -> None:
    path = write(
        tmp_path / "d.parquet",
        {"id": list("abcd"), "label": [0, 1, None, 1], "image": [png(PIXELS[0]), b"junk", png(PIXELS[2]), png(PIXELS[3])]},
    )
    done = prune("manifest", "check", path, "--json", check=1)
    found = json.loads(done.stdout)
    assert not found["sound"] and found["rows_in"] == 4 and found["input_shape"] == [8, 8, 1]
    assert [(r["id"], r["reason"] == "missing label") for r in found["bad"]] == [("b", False), ("c", True)]
    assert {p.name for p in tmp_path.iterdir()} == {"d.parquet"}


def test_check_tells_sizes_that_differ_and_missing_labels(prune: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "d.parquet", {"image": [png(PIXELS[0]), png(PIXELS[1][:4])]})
    done = prune("manifest", "check", path)
    assert b"--image-size" in done.stderr and b"no column 'label'" in done.stderr and b"no column 'id'" in done.stderr


def test_check_of_vectors_and_of_a_file_that_cannot_be_used(prune: Any, vectors: Path, tmp_path: Path) -> None:
    prune("manifest", "check", vectors)
    write(tmp_path / "twice.parquet", {"id": ["a", "a"], "embedding": pa.array([[1.0], [2.0]])})
    assert b"stand more than once" in prune("manifest", "check", "twice.parquet", check=2).stderr
