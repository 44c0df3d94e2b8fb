"""Dynamics records as files: written pass by pass, read as a stream, checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from prune_cli.core.errors import InputError
from prune_cli.io.ids.columns import Labels
from prune_cli.io.manifests.dynamics import RecordFile, RecordParts, join_records
from prune_cli.io.parquet.provenance import Provenance
from prune_cli.io.parquet.tables import ParquetSource

PROVENANCE = Provenance("train", "standard", {}, 0, [])
IDS = pa.array(["b", "a", "c"])
LABELS = Labels(np.array([0, 1, 1]), (3, 7), None, pa.int64())


def made(folder: Path, run: int = 0, epochs: int = 3) -> Path:
    """Write a record whose loss in pass e of sample i is 10 e + i + 100 run, and a look after the last pass."""
    parts = RecordParts(folder / f"parts-{run}", IDS, LABELS, run)
    loss = lambda e: (10 * e + np.arange(3) + 100 * run).astype(np.float32)  # noqa: E731
    for epoch in range(epochs, 0, -1):  # the order they are written in changes nothing
        parts.on_record("train", epoch, {"loss": loss(epoch), "correct": np.array([1.0, 0.0, 1.0], np.float32)})
    parts.on_record("eval", epochs, {"loss": loss(epochs) + 0.5})
    path = folder / f"record-{run}.parquet"
    parts.write(str(path), PROVENANCE)
    assert not parts.folder.exists()
    return path


def opened(path: Path) -> RecordFile:
    return RecordFile(ParquetSource(str(path)))


def rewritten(path: Path, table: pa.Table) -> RecordFile:
    pq.write_table(table, path, row_group_size=2)
    return opened(path)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    file = opened(made(tmp_path))
    record = file.of_run(0)
    assert file.ids.equals(IDS) and file.label_values().equals(pa.array([3, 7, 7]))
    assert (file.runs, record.n_samples, record.n_epochs, record.eval_epochs) == (1, 3, 3, (3,))
    assert [values.tolist() for values in record.training("loss")] == [[10, 11, 12], [20, 21, 22], [30, 31, 32]]
    assert [values.tolist() for values in record.training("correct")] == [[1, 0, 1]] * 3
    assert record.evaluated(3, "loss").tolist() == [30.5, 31.5, 32.5]


def test_a_pass_written_again_takes_the_place_of_the_first(tmp_path: Path) -> None:
    parts = RecordParts(tmp_path / "parts", IDS, LABELS)
    for shift in (0, 1):
        parts.on_record("train", 1, {"loss": np.arange(3, dtype=np.float32) + shift})
    parts.write(str(tmp_path / "record.parquet"), PROVENANCE)
    assert [v.tolist() for v in opened(tmp_path / "record.parquet").of_run(0).training("loss")] == [[1, 2, 3]]


def test_runs_stand_one_after_the_other(tmp_path: Path) -> None:
    paths = [made(tmp_path, run) for run in (0, 1)]
    join_records(paths, str(tmp_path / "both.parquet"), PROVENANCE)
    file = opened(tmp_path / "both.parquet")
    assert file.runs == 2
    assert next(v.tolist() for v in file.of_run(1).training("loss")) == [110, 111, 112]
    assert file.of_run(1).evaluated(3, "loss").tolist() == [130.5, 131.5, 132.5]


def test_row_groups_and_the_order_within_a_pass_are_free(tmp_path: Path) -> None:
    table = pq.read_table(made(tmp_path))
    mixed = table.take([0, 1, 2, 5, 3, 4, 6, 7, 8, 10, 11, 9])
    record = rewritten(tmp_path / "mixed.parquet", mixed).of_run(0)
    assert [v.tolist() for v in record.training("loss")] == [[10, 11, 12], [20, 21, 22], [30, 31, 32]]
    assert record.evaluated(3, "loss").tolist() == [30.5, 31.5, 32.5]


def test_run_mode_and_label_may_be_missing(tmp_path: Path) -> None:
    table = pq.read_table(made(tmp_path)).slice(0, 9).select(["id", "epoch", "loss"])
    file = rewritten(tmp_path / "bare.parquet", table)
    assert file.label_values() is None and file.of_run(0).n_epochs == 3


def test_missing_epochs_are_named(tmp_path: Path) -> None:
    table = pq.read_table(made(tmp_path, epochs=6))
    gap = table.filter(pc.and_(pc.not_equal(table["epoch"], 2), pc.not_equal(table["epoch"], 4)))
    with pytest.raises(InputError, match="run 0 lacks the training of epoch 2, 4; it goes to 6"):
        rewritten(tmp_path / "gap.parquet", gap)


def test_a_pass_that_lacks_a_sample_is_named(tmp_path: Path) -> None:
    table = pq.read_table(made(tmp_path))
    with pytest.raises(InputError, match=r"epoch 2 of run 0 \(train\) has 2 samples and the first has 3; they differ in c"):
        rewritten(tmp_path / "lack.parquet", table.take([0, 1, 2, 3, 4, 6, 7, 8]))


def test_a_sample_twice_in_a_pass(tmp_path: Path) -> None:
    table = pq.read_table(made(tmp_path))
    with pytest.raises(InputError, match="has a sample twice"):
        rewritten(tmp_path / "twice.parquet", table.take([0, 1, 2, 3, 4, 4, 6, 7, 8]))


def test_rows_sorted_by_sample(tmp_path: Path) -> None:
    table = pq.read_table(made(tmp_path)).slice(0, 9).sort_by([("id", "ascending"), ("epoch", "ascending")])
    with pytest.raises(InputError, match="sort the file by run and epoch"):
        rewritten(tmp_path / "sorted.parquet", table)


def test_nothing_where_a_number_is_wanted(tmp_path: Path) -> None:
    record = opened(made(tmp_path)).of_run(0)
    with pytest.raises(InputError, match=r"'gradient_norm' of epoch 3 \(eval\) has no number for 3 of 3 samples, as b"):
        record.evaluated(3, "gradient_norm")
    with pytest.raises(InputError, match=r"'prob_change' of epoch 2[\s\S]*--method tdds"):
        list(record.training("prob_change"))
    with pytest.raises(InputError, match="no column 'magic'"):
        list(record.training("magic"))
