"""The sample data: what its README says, and the same again from its script."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_digits
from warm import WarmCommands

from prune_cli.io.images.column import decode_images

FOLDER = Path(__file__).parents[1] / "sample_data"
NAMES = ("digits_train.parquet", "digits_test.parquet", "digits_noisy_train.parquet")


@pytest.fixture(scope="module")
def tables() -> dict[str, pa.Table]:
    """The three files as they are in the repository."""
    return {name: pq.read_table(FOLDER / name) for name in NAMES}


def test_made_again_it_is_the_same(tmp_path: Path, warm: WarmCommands) -> None:
    """Byte for byte with the pyarrow that made it (it writes its version), value for value with any other."""
    subprocess.run([warm.python, FOLDER / "make_sample_data.py", "--output", tmp_path], check=True)
    for name in NAMES:
        ours, again = FOLDER / name, tmp_path / name
        if pq.ParquetFile(ours).metadata.created_by == pq.ParquetFile(again).metadata.created_by:
            assert ours.read_bytes() == again.read_bytes()
        assert pq.read_table(ours).equals(pq.read_table(again), check_metadata=True)


def test_every_digit_is_there_once(tables: dict[str, pa.Table]) -> None:
    """The images are scikit-learn's, 0..16 scaled to 0..255, with its labels; 50 of each class are for testing."""
    digits = load_digits()
    seen: list[int] = []
    for name in NAMES[:2]:
        table = tables[name]
        rows = [int(row_id.removeprefix("digit-")) for row_id in table["id"].to_pylist()]
        seen += rows
        decoded = decode_images(lambda table=table: iter(table["image"].chunks), len(table))
        assert not decoded.bad
        assert np.array_equal(decoded.images_nhwc[:, :, :, 0], np.round(digits.images[rows] * 255 / 16))
        assert table["label"].to_pylist() == digits.target[rows].tolist()
    assert sorted(seen) == list(range(1797))
    assert np.bincount(tables[NAMES[1]]["label"].to_numpy()).tolist() == [50] * 10


def test_a_fifth_of_the_noisy_labels_is_wrong(tables: dict[str, pa.Table]) -> None:
    """The rows of the training file; 259 of 1,297 labels differ, and the wrong ones are spread over all classes."""
    clean, noisy = tables[NAMES[0]], tables[NAMES[2]]
    assert noisy.select(["id", "image"]).equals(clean.select(["id", "image"]))
    assert noisy["true_label"].equals(clean["label"])
    given, true = noisy["label"].to_numpy(), noisy["true_label"].to_numpy()
    assert (given != true).sum() == 259 == int(0.2 * 1297)
    steps = np.bincount((given - true) % 10, minlength=10)[1:]
    assert steps.min() >= 15 and steps.max() <= 45  # 28.8 each, give or take three standard deviations


def test_hugging_face_metadata(tables: dict[str, pa.Table]) -> None:
    """Columns and class names as ``datasets`` writes them; row groups of 500."""
    for name, table in tables.items():
        labels = ["label"] + ["true_label"] * ("noisy" in name)
        assert table.column_names == ["id", "image", *labels]
        assert table.schema.field("image").type == pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
        assert features["image"] == {"_type": "Image"} and features["id"] == {"dtype": "string", "_type": "Value"}
        for label in labels:
            assert table.schema.field(label).type == pa.int64()
            assert features[label] == {"names": list("0123456789"), "_type": "ClassLabel"}
        groups = pq.ParquetFile(FOLDER / name).metadata
        assert max(groups.row_group(g).num_rows for g in range(groups.num_row_groups)) == 500
