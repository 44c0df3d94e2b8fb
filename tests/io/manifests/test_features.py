"""Features that stay in a file: parts of it by their number, in any order, of some of its rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prune_cli.io.ids.rows import RowIds
from prune_cli.io.manifests.features import FeatureFile, StreamedFeatures
from prune_cli.io.manifests.ledger import Ledger
from prune_cli.io.parquet.tables import ParquetSource

N = 230


@pytest.fixture
def made(tmp_path: Path) -> tuple[FeatureFile, np.ndarray]:
    """A folder of two files with row groups of 17 rows in another order than the manifest's, five rows of it not in that; its vectors."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(N, 3)).astype(np.float32)
    order = rng.permutation(N)
    more = np.arange(N, N + 5)
    ids, rows = np.r_[order[:120], more, order[120:]], np.r_[values[order[:120]], np.ones((5, 3)), values[order[120:]]]
    (tmp_path / "features").mkdir()
    for name, part in (("a", slice(0, 100)), ("b", slice(100, None))):
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows[part].ravel(), pa.float32()), 3)
        table = pa.table({"id": ids[part], "embedding": vectors})
        pq.write_table(table, tmp_path / "features" / f"{name}.parquet", row_group_size=17)
    pq.write_table(pa.table({"id": np.arange(N)}), tmp_path / "scores.parquet")
    manifest = RowIds(ParquetSource(str(tmp_path / "scores.parquet")), "id")
    return FeatureFile(ParquetSource(str(tmp_path / "features")), manifest), values


@pytest.mark.parametrize("rows", [1, 16, 50, 119, 1000])
def test_parts_are_of_so_many_rows_and_can_be_read_in_any_order(made: tuple[FeatureFile, np.ndarray], rows: int) -> None:
    file, values = made
    streamed = StreamedFeatures(file, np.arange(N))
    parts = streamed.batches(rows, np.arange(N))
    assert len(parts) == -(-(N + 5) // rows) and not streamed.ordered
    assert sorted(np.concatenate([part.positions for part in parts]).tolist()) == list(range(N))
    for number in np.random.default_rng(1).permutation(len(parts))[:20]:
        part = parts[number]
        assert np.array_equal(part.read(), values[part.positions])
        assert np.array_equal(part.read(), values[part.positions]), "again"


def test_of_some_rows_the_others_are_left_out(made: tuple[FeatureFile, np.ndarray]) -> None:
    file, values = made
    some = np.array([200, 3, 77])
    parts = StreamedFeatures(file, some).batches(40, np.arange(3))
    found = {int(n): row for part in parts for n, row in zip(part.positions, part.read(), strict=True)}
    assert all(np.array_equal(found[n], values[position]) for n, position in enumerate(some)) and len(found) == 3
    again = StreamedFeatures(file, np.arange(N)).take(some).batches(40, np.arange(3))
    assert [part.positions.tolist() for part in again] == [part.positions.tolist() for part in parts]


def test_rows_are_read_on_from_where_the_last_part_ended(made: tuple[FeatureFile, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    file, _ = made
    begun: list[int] = []
    blocks = FeatureFile.blocks
    monkeypatch.setattr(FeatureFile, "blocks", lambda self, rows: (begun.append(rows), blocks(self, rows))[1])
    parts = StreamedFeatures(file, np.arange(N)).batches(50, np.arange(N))
    for number in (0, 0, 1, 3, 4):
        parts[number].read()
    assert begun == [50]
    parts[2].read()
    assert begun == [50, 50]


def test_a_vector_that_is_missing_at_the_front_moves_no_part(tmp_path: Path) -> None:
    vectors = [None] * 30 + [[float(n), 1.0] for n in range(30, 60)]
    pq.write_table(pa.table({"id": np.arange(60), "embedding": vectors}), tmp_path / "f.parquet")
    source = ParquetSource(str(tmp_path / "f.parquet"))
    file, ledger = FeatureFile(source, RowIds(source, "id")), Ledger()
    file.check(ledger)
    assert len(ledger) == 30
    parts = StreamedFeatures(file, np.arange(30, 60)).batches(20, np.arange(30))
    assert [len(part.positions) for part in parts] == [0, 10, 20]
    assert parts[1].read()[:, 0].tolist() == [float(n) for n in range(30, 40)]
    assert parts[2].read()[:, 0].tolist() == [float(n) for n in range(40, 60)]
