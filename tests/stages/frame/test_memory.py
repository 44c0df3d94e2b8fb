"""Sorting within a limit: what is planned, what is refused, and that the answer does not depend on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from making import write

from prune_cli.core.errors import InputError
from prune_cli.core.runtime import Runtime
from prune_cli.io.ids import order as id_order
from prune_cli.stages.frame import memory as row_memory
from prune_cli.stages.frame.memory import RowMemory
from prune_cli.stages.manifest.merge import MergeOptions, merge
from prune_cli.stages.select.command import select
from prune_cli.stages.select.request import SelectOptions

ROWS = 2000
MIB = 2**20


def scores(tmp_path: Path) -> tuple[str, str]:
    rng = np.random.default_rng(0)
    files = []
    for name, score in (("a", "cg"), ("b", "el2n")):
        order = rng.permutation(ROWS)
        ids = pa.array([f"sample-{i % 7}-{i:06d}" for i in order])
        write(tmp_path / f"{name}.parquet", {"id": ids, "label": order % 3, score: rng.random(ROWS)})
        files.append(str(tmp_path / f"{name}.parquet"))
    return files[0], files[1]


def test_a_peak_by_hand() -> None:
    """A million rows: 9 + 24 MB while they are sorted, 36 MB after that, beside 260 MiB."""
    memory = RowMemory(10**6, 36, 10**9)
    assert memory.peak == 260 * MIB + 36 * 10**6 and memory.sorting() == "sorted at once"
    memory.check()
    assert memory.for_sorting == 10**9 - 260 * MIB - 9 * 10**6


def test_little_room_makes_ranges_and_less_is_refused() -> None:
    """Ten million rows of 14 bytes: 140 MB. 150 MB leave 60 for a sort that wants 240."""
    memory = RowMemory(10**7, 14, 260 * MIB + 150 * 10**6)
    memory.check()
    assert memory.for_sorting == 60 * 10**6 and memory.sorting().startswith("sorted in 4 ")
    assert memory.peak == 260 * MIB + 150 * 10**6
    with pytest.raises(
        InputError, match=r"10,000,000 rows take 393\.5 MiB of memory, and the limit is 300\.0 MiB(?s:.)*--memory-limit 394MiB"
    ):
        RowMemory(10**7, 14, 300 * MIB).check()


def test_few_rows_fit_every_limit() -> None:
    RowMemory(1000, 300, 1).check()


def test_a_merge_within_a_limit_is_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = scores(tmp_path)
    merge(MergeOptions(files, output=str(tmp_path / "wide.parquet")))
    monkeypatch.setattr(row_memory, "PROCESS_BYTES", 0)
    monkeypatch.setattr(row_memory, "LEAST_BYTES", 1)
    tight = MergeOptions(files, runtime=Runtime(memory_limit=31 * ROWS), output=str(tmp_path / "tight.parquet"))
    plan = merge(MergeOptions(files, runtime=tight.runtime, output="-", plan=True)).summary["plan"]
    assert plan["ids"] == "sorted in 2 or more ranges, each read by itself" and plan["peak_memory_bytes"] == 31 * ROWS
    merge(tight)
    assert (tmp_path / "tight.parquet").read_bytes() == (tmp_path / "wide.parquet").read_bytes()
    with pytest.raises(InputError, match="--memory-limit"):
        merge(MergeOptions(files, runtime=Runtime(memory_limit=20 * ROWS), output=str(tmp_path / "none.parquet")))
    assert not (tmp_path / "none.parquet").exists()


@pytest.mark.parametrize("method", ["top", "stratified", "random"])
def test_a_selection_from_ranges_is_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    files, written = scores(tmp_path), []
    for name, sort_bytes in (("at-once", id_order.SORT_BYTES), ("ranges", 10**6)):
        monkeypatch.setattr(id_order, "SORT_BYTES", sort_bytes)
        output = tmp_path / f"{name}.parquet"
        select(
            SelectOptions(
                files, method=method, params=("key=el2n",) if method != "random" else (), fractions=(0.3,), output=str(output),
                runtime=Runtime(memory_limit=10**9),
            )
        )  # fmt: skip
        written.append(output.read_bytes())
    assert written[0] == written[1]
