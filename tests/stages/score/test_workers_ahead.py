"""Processes for kernel blocks that get ready while the inputs are read."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from making import write

from prune_cli.core.errors import BadRowsError
from prune_cli.core.runtime import Runtime
from prune_cli.engines import engine, local, processes
from prune_cli.engines.pool import Pool
from prune_cli.io.manifests.data import DataOptions
from prune_cli.stages.frame import engine as engines
from prune_cli.stages.score.command import score
from prune_cli.stages.score.request import ScoreOptions

pytestmark = pytest.mark.usefixtures("warm_workers")


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the pools that are started, ahead or not; any work is worth some."""
    made: list[Any] = []

    def noted(count: int, cards: tuple[str, ...] = ()) -> Pool:
        pool = processes.block_pool(count, cards)
        made.append(pool.processes)
        return pool

    monkeypatch.setattr(engine, "_WORTH_PROCESSES", -1.0)
    monkeypatch.setattr(local, "block_pool", noted)
    monkeypatch.setattr(engines, "block_pool", noted)
    return made


def scored(vectors: Path, output: str, **more: Any) -> str:
    runtime = Runtime(device="cpu", workers=more.pop("workers", 2), seed=1)
    path = vectors.parent / output
    options = ScoreOptions(DataOptions(str(vectors)), ("cg", "ntk_margin"), output=str(path), runtime=runtime, **more)
    score(options)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_one_pool_serves_all_blocks_and_the_bytes_are_the_same(vectors: Path, pools: list[Any]) -> None:
    params = ("mode=partition", "block_size=20")
    one = scored(vectors, "one.parquet", params=params, workers=1)
    assert pools == []
    assert scored(vectors, "two.parquet", params=params) == one
    assert [len(pool) for pool in pools] == [2]
    assert all(process.returncode is not None for process in pools[0])


def test_none_is_started_where_blocks_may_be_finished(vectors: Path, pools: list[Any]) -> None:
    params, work = ("mode=partition", "block_size=20"), vectors.parent / "kept"
    first = scored(vectors, "first.parquet", params=params, work_dir=work)
    n_pools = len(pools)
    assert scored(vectors, "again.parquet", params=params, work_dir=work) == first
    assert len(pools) == n_pools


def test_all_leave_when_the_inputs_are_bad(vectors: Path, pools: list[Any]) -> None:
    table = pq.read_table(vectors)
    values = np.stack(table["embedding"].to_numpy())
    values[7, 3] = np.nan
    bad = pa.FixedSizeListArray.from_arrays(values.ravel(), values.shape[1])
    write(vectors, {"id": table["id"], "label": table["label"], "embedding": bad})
    with pytest.raises(BadRowsError):
        scored(vectors, "out.parquet", params=("mode=partition", "block_size=20"))
    assert len(pools) == 1
    assert all(process.returncode is not None for process in pools[0])
