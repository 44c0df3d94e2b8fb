"""``select --method neighbor_confidence`` as a stage: where probabilities come from, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from making import write

from prune_cli.core.errors import BadRowsError, InputError
from prune_cli.core.runtime import Runtime
from prune_cli.io.manifests.ledger import ErrorAllowance
from prune_cli.io.parquet.provenance import read_provenance
from prune_cli.io.parquet.tables import ParquetSource
from prune_cli.stages.frame.outcome import Outcome
from prune_cli.stages.select.command import select
from prune_cli.stages.select.request import SelectOptions

N = 60


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Sixty rows of three labels with vectors in crowds, and probabilities, all in one file."""
    rng = np.random.default_rng(0)
    crowd = rng.integers(0, 6, N)
    vectors = rng.normal(size=(6, 5))[crowd] + 0.1 * rng.normal(size=(N, 5))
    return write(
        tmp_path / "d.parquet",
        {
            "id": [f"r{i:02d}" for i in range(N)],
            "label": rng.integers(0, 3, N),
            "embedding": vectors.astype(np.float32).tolist(),
            "prob": rng.dirichlet(np.ones(3), N).tolist(),
        },
    )


def run(data: Path, output: str = "out.parquet", **options: Any) -> Outcome:
    options = {"method": "neighbor_confidence", "fractions": (0.25,), **options}
    runtime = Runtime(device="cpu", memory_limit=options.pop("memory_limit", None))
    return select(SelectOptions((str(data),), output=str(data.parent / output), runtime=runtime, **options))


def without(data: Path, *columns: str) -> Path:
    path = data.parent / f"no-{'-'.join(columns)}.parquet"
    pq.write_table(pq.read_table(data).drop_columns(list(columns)), path)
    return path


def test_the_manifest_has_ranks_gains_and_the_confidence_around_every_row(data: Path) -> None:
    outcome = run(data, fractions=(0.1, 0.5))
    assert outcome.summary["method"] == "neighbor_confidence" and "all pairs" in outcome.summary["way"]
    few, many = (pq.read_table(path) for path in outcome.outputs)
    assert few.schema.names == ["id", "label", "selected", "rank", "gain", "neighbor_confidence", "reason"]
    assert few["rank"].to_pylist()[:5] == many["rank"].to_pylist()[:5] or few["rank"].null_count > 0
    kept = [table.filter(table["selected"])["id"].to_pylist() for table in (few, many)]
    assert len(kept[0]) == 6 and len(kept[1]) == 30 and set(kept[0]) < set(kept[1])
    around = [table["neighbor_confidence"].to_numpy() for table in (few, many)]
    assert (around[1] >= around[0]).all() and around[1].sum() > around[0].sum()
    assert around[0].min() >= 0 and (around[0] > 0).sum() > 6, "also of rows that are left out"
    files = outcome.summary["outputs"]
    assert files[0]["objective"] == pytest.approx(np.tanh(around[0]).sum()) and files[0]["objective"] < files[1]["objective"]
    assert outcome.tables["figures: neighbors by all pairs"][0][:2] == ["budget", "objective"]


def test_vectors_and_probabilities_come_from_one_file_or_from_several_and_by_any_name(data: Path) -> None:
    run(data)
    expected = (data.parent / "out.parquet").read_bytes()
    table = pq.read_table(data)
    bare = write(data.parent / "bare.parquet", {"id": table["id"].to_pylist(), "label": table["label"].to_pylist()})
    shuffled = table.take(pa.array(np.random.default_rng(1).permutation(N)))
    pq.write_table(shuffled.select(["id", "embedding", "prob"]), data.parent / "both.parquet")
    pq.write_table(shuffled.select(["id", "embedding"]), data.parent / "e.parquet")
    pq.write_table(shuffled.select(["id", "prob"]).rename_columns(["id", "p"]), data.parent / "p.parquet")
    ways: list[dict[str, Any]] = [
        {"features": str(data.parent / "both.parquet")},
        {"features": str(data.parent / "e.parquet"), "probabilities": str(data.parent / "p.parquet"), "prob_column": "p"},
    ]
    for number, way in enumerate(ways):
        run(bare, f"{number}.parquet", **way)
        found = pq.read_table(data.parent / f"{number}.parquet")
        assert found.equals(pq.read_table(data.parent / "out.parquet")), way
        stated = read_provenance(ParquetSource(str(data.parent / f"{number}.parquet")).schema)
        assert stated is not None
        named = [Path(p).name for p in way.values() if p.endswith(".parquet")]
        assert [i["name"] for i in stated["inputs"]] == ["bare.parquet", *named]
    run(data, "alias.parquet", method="prune4rel")
    assert (data.parent / "alias.parquet").read_bytes() == expected


def test_probabilities_that_are_none_are_bad_rows(data: Path) -> None:
    table = pq.read_table(data)
    probs = table["prob"].to_pylist()
    probs[3], probs[5], probs[8] = [0.5, 0.5, 0.5], [1.5, -0.5, 0.0], [0.2, 0.8]
    at = table.schema.get_field_index("prob")
    bad = data.parent / "bad.parquet"
    pq.write_table(table.set_column(at, "prob", pa.array(probs)), bad)
    with pytest.raises(BadRowsError):
        run(bad)
    ledger = pq.read_table(next(data.parent.glob("*errors*")))
    assert ledger["id"].to_pylist() == ["r03", "r05", "r08"]
    assert ledger["reason"].to_pylist() == [
        "'prob': probabilities that do not sum to 1", "'prob': a probability below 0 or above 1",
        "a vector of 2 numbers, 3 wanted",
    ]  # fmt: skip
    outcome = run(bad, "ok.parquet", max_errors=ErrorAllowance(3))
    found = pq.read_table(outcome.outputs[0])
    assert found["reason"].to_pylist()[3] == "no score or vector" and found["neighbor_confidence"].null_count == 3


def test_a_bad_row_that_was_to_be_kept_is_told(data: Path) -> None:
    table = pq.read_table(data)
    vectors = table["embedding"].to_pylist()
    vectors[2] = [0.0] * 5
    pq.write_table(table.set_column(2, "embedding", pa.array(vectors)), data.parent / "zero.parquet")
    (data.parent / "keep.txt").write_text("r02\nr04\n")
    outcome = run(data.parent / "zero.parquet", keep=str(data.parent / "keep.txt"), max_errors=ErrorAllowance(1), counts=(9,), fractions=())
    assert any("1 of these are in --keep and cannot be kept, such as r02" in w for w in outcome.warnings)
    kept = pq.read_table(outcome.outputs[0]).filter(pa.compute.field("selected"))["id"].to_pylist()
    assert "r04" in kept and "r02" not in kept and len(kept) == 9


@pytest.mark.parametrize(
    ("drop", "options", "message"),
    [
        ("prob", {}, r"has no column 'prob'(?s:.)*--probabilities"),
        ("embedding", {}, r"needs features(?s:.)*--features"),
        ("label", {}, "balance=labels needs labels"),
        ("prob", {"prob_column": "label"}, r"column 'label' is .*, not a list of floats(?s:.)*--prob-column"),
        (None, {"params": ("tau=1",)}, "tau is 1, not between 0 and 1"),
        (None, {"params": ("rule=best",)}, "exact"),
        (None, {"counts": (61,), "fractions": ()}, "60 can be selected"),
        (None, {"method": "random", "probabilities": "p.parquet"}, "goes by no probabilities"),
    ],
)
def test_what_is_missing_is_said(data: Path, drop: str | None, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(without(data, drop) if drop else data, **options)
    assert not (data.parent / "out.parquet").exists()


def test_without_labels_it_runs_unbalanced(data: Path) -> None:
    outcome = run(without(data, "label"), params=("balance=none",))
    assert outcome.summary["outputs"][0]["rows_kept"] == 15


def test_presets_and_the_plan(data: Path) -> None:
    run(data, preset="prune4rel-clothing1m")
    stated = read_provenance(ParquetSource(str(data.parent / "out.parquet")).schema)
    assert stated is not None and stated["parameters"]["tau"] == 0.8 and stated["parameters"]["eta"] == 1.0
    plan = run(data, "p.parquet", plan=True).summary["plan"]
    assert "all pairs up to 262,144 rows" in plan["neighbors"] and plan["edges_at_most_bytes"] > 0
    assert plan["peak_memory_bytes"] > plan["edges_at_most_bytes"]
    assert not (data.parent / "p.parquet").exists()


def test_a_small_memory_limit_computes_rows_as_they_are_needed(data: Path) -> None:
    run(data)
    outcome = run(data, "small.parquet", memory_limit=600 * 2**20)
    assert "as needed" not in outcome.summary["way"]
    outcome = run(data, "less.parquet", memory_limit=10_000)
    assert "as needed" in outcome.summary["way"]
    whole, less = (pq.read_table(data.parent / name) for name in ("out.parquet", "less.parquet"))
    assert whole.select(["id", "selected", "rank"]).equals(less.select(["id", "selected", "rank"]))
