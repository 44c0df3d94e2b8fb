import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from making import write

from prune_cli.core.errors import BadRowsError, InputError
from prune_cli.core.runtime import Runtime
from prune_cli.engines import handout
from prune_cli.engines.handout import MapBlocks
from prune_cli.io.manifests.ledger import ErrorAllowance
from prune_cli.io.parquet.provenance import read_provenance
from prune_cli.io.parquet.tables import ParquetSource
from prune_cli.io.runs.finished import BlockFolder
from prune_cli.methods.selection.proxy import accuracy as proxy_outputs
from prune_cli.stages.select.command import select
from prune_cli.stages.select.request import SelectOptions, row_count


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    """Ten rows: ids a to j in reverse, cg 0 to 9, classes 0 (seven rows) and 1 (three rows)."""
    return write(tmp_path / "d.scores.parquet", {"id": list("jihgfedcba"), "label": [0, 0, 1, 0, 0, 1, 0, 0, 0, 1], "cg": np.arange(10.0)})


def run(scores: Path, output: str = "out.parquet", **options: Any) -> pa.Table:
    out = scores.parent / output
    runtime = Runtime(seed=options.pop("seed", 0), device="cpu")
    options = {"method": "top", "per_class": False, **options}
    outcome = select(SelectOptions((str(scores),), output=str(out), runtime=runtime, **options))
    assert outcome.outputs == [str(out)]
    return pq.read_table(out)


def kept(table: pa.Table) -> str:
    return "".join(sorted(table.filter(table.column("selected")).column("id").to_pylist()))


def test_the_hardest_by_hand(scores: Path) -> None:
    table = run(scores, fractions=(0.3,))
    assert table.column("id").to_pylist() == list("jihgfedcba"), "every input row, once, in its place"
    assert kept(table) == "abc"
    assert table.column("rank").to_pylist() == [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]
    assert table.column("reason").to_pylist() == ["beyond the budget"] * 7 + [None] * 3
    assert table.column("score").to_pylist() == list(range(10))
    assert table.schema.names == ["id", "label", "selected", "rank", "score", "reason"]


def test_easiest_and_offset(scores: Path) -> None:
    assert kept(run(scores, fractions=(0.3,), params=("order=easiest",))) == "hij"
    table = run(scores, "b.parquet", fractions=(0.3,), params=("offset=0.2",))
    assert kept(table) == "cde"
    assert table.column("reason").to_pylist()[-2:] == ["skipped by the offset"] * 2
    everything = run(scores, "c.parquet", fractions=(1.0,), params=("offset=0.2",))
    assert kept(everything) == "abcdefghij"


def test_a_column_that_is_easier_when_high_is_turned(scores: Path) -> None:
    table = pq.read_table(scores).rename_columns(["id", "label", "aum"])
    pq.write_table(table, scores)
    assert kept(run(scores, fractions=(0.3,))) == "hij"
    assert kept(run(scores, "b.parquet", threshold=2.0)) == "hij", "at least as hard as 2, where high is easy"


def test_the_file_says_the_direction_of_its_scores(scores: Path) -> None:
    table = pq.read_table(scores).rename_columns(["id", "label", "mine"])
    pq.write_table(table.replace_schema_metadata({"prune": json.dumps({"score_direction": {"mine": "easier"}})}), scores)
    assert kept(run(scores, fractions=(0.3,))) == "hij"


def test_an_unknown_direction_must_be_told(scores: Path) -> None:
    pq.write_table(pq.read_table(scores).rename_columns(["id", "label", "mine"]), scores)
    with pytest.raises(InputError, match=r"--direction mine=harder"):
        run(scores, fractions=(0.3,))
    assert kept(run(scores, fractions=(0.3,), directions=("mine=easier",))) == "hij"
    with pytest.raises(InputError, match="not NAME=harder or NAME=easier"):
        run(scores, "b.parquet", fractions=(0.3,), directions=("mine=up",))


def test_several_score_columns_need_a_name(scores: Path) -> None:
    table = pq.read_table(scores).append_column("el2n", pa.array(np.arange(10.0)[::-1])).append_column("cg_ab", pa.array(np.zeros(10)))
    pq.write_table(table, scores)
    with pytest.raises(InputError, match=r"several score columns: cg, el2n(?s:.)*-p key=cg"):
        run(scores, fractions=(0.3,))
    assert kept(run(scores, fractions=(0.3,), params=("key=el2n",))) == "hij"


@pytest.mark.parametrize(
    ("rule", "ids"), [({"threshold": 7.0}, "abc"), ({"threshold": 2.0, "params": ("order=easiest",)}, "hij"), ({"counts": (4,)}, "abcd")]
)
def test_thresholds_and_counts(scores: Path, rule: dict[str, Any], ids: str) -> None:
    assert kept(run(scores, **rule)) == ids


def test_per_class_keeps_the_share_of_each_class(scores: Path) -> None:
    table = run(scores, fractions=(0.4,), per_class=True)
    chosen = table.filter(table.column("selected"))
    assert chosen.column("label").to_pylist().count(1) == 1 and chosen.num_rows == 4
    assert kept(table) == "abcd"


def test_what_is_published_as_ranked_inside_each_class_is(scores: Path) -> None:
    """By cg, 4 of 10 are 3 of the seven and 1 of the three; by a score that is ranked among all, the four hardest."""
    table = run(scores, fractions=(0.4,), per_class=None)
    assert kept(table) == "abcd" and read_provenance(table.schema)["parameters"]["per_class"] is True
    assert kept(run(scores, "b.parquet", fractions=(0.5,), per_class=None)) == "abcdf", "four of the seven, one of the three"
    other = pq.read_table(scores).rename_columns(["id", "label", "el2n"])
    pq.write_table(other, scores)
    assert read_provenance(run(scores, "c.parquet", fractions=(0.4,), per_class=None).schema)["parameters"]["per_class"] is False
    pq.write_table(other.rename_columns(["id", "label", "cg"]).drop_columns("label"), scores)
    without = run(scores, "d.parquet", fractions=(0.4,), per_class=None)
    assert read_provenance(without.schema)["parameters"]["per_class"] is False, "no labels, no classes"


def test_a_class_that_is_lost_or_kept_at_under_a_third_of_its_share_is_named(tmp_path: Path) -> None:
    """20 rows of class x, 20 of y, 10 of z; the 20 hardest are 17 of x, 2 of y and 1 of z, whose shares are 8, 8 and 4."""
    labels = ["x"] * 17 + ["y"] * 2 + ["z"] + ["x"] * 3 + ["y"] * 18 + ["z"] * 9
    columns = {"id": [f"{i:02d}" for i in range(50)], "label": labels, "el2n": np.arange(50.0)[::-1]}
    path = write(tmp_path / "d.scores.parquet", columns)
    options = {"counts": (3, 20), "output": str(tmp_path / "o.parquet"), "method": "top"}
    outcome = select(SelectOptions((str(path),), **options))
    three, twenty = outcome.summary["outputs"]
    assert three["classes_short"] == [{"class": "y", "kept": 0, "share": 1.2}, {"class": "z", "kept": 0, "share": 0.6}]
    assert twenty["classes_short"] == [{"class": "y", "kept": 2, "share": 8.0}, {"class": "z", "kept": 1, "share": 4.0}]
    assert [w for w in outcome.warnings if "--per-class" in w] == [
        "count 3: 2 class(es) lost, 0 kept at under a third of their share (y 0 of 1, z 0 of 1); --per-class keeps the share of each",
        "count 20: 0 class(es) lost, 2 kept at under a third of their share (y 2 of 8, z 1 of 4); --per-class keeps the share of each",
    ]
    fair = select(SelectOptions((str(path),), **options, per_class=True, force=True))
    assert not any("class" in one for one in fair.warnings) and "classes_short" not in fair.summary["outputs"][1]


@pytest.mark.parametrize(
    "options", [{}, {"method": "random"}, {"per_class": True}, {"params": ("offset=0.2",)}, {"method": "random", "per_class": True}]
)
def test_budgets_are_exact_and_nested_and_ranks_say_so(scores: Path, options: dict[str, Any]) -> None:
    before: set[str] = set()
    for k in range(1, 11):
        table = run(scores, f"{k}.parquet", counts=(k,), **options)
        ids = set(kept(table))
        assert len(ids) == k and before <= ids
        ranked = {i for i, r in zip(table.column("id").to_pylist(), table.column("rank").to_pylist(), strict=True) if r <= k}
        assert ranked == ids
        before = ids


def test_several_budgets_are_one_file_each_and_equal_to_one_by_one(scores: Path) -> None:
    out = scores.parent / "many.parquet"
    outcome = select(SelectOptions((str(scores),), method="top", fractions=(0.1, 0.3), per_class=False, output=str(out)))
    assert [Path(o).name for o in outcome.outputs] == ["many-0.1.parquet", "many-0.3.parquet"]
    alone = run(scores, fractions=(0.3,))
    assert pq.read_table(outcome.outputs[1]).equals(alone)
    assert Path(outcome.outputs[1]).read_bytes() == (scores.parent / "out.parquet").read_bytes()


def test_keep_and_drop(scores: Path) -> None:
    (scores.parent / "keep.txt").write_text("j\n\ni\n")
    write(scores.parent / "drop.parquet", {"id": ["a", "h"], "selected": [True, False]})
    table = run(scores, counts=(4,), keep=str(scores.parent / "keep.txt"), drop=str(scores.parent / "drop.parquet"))
    assert kept(table) == "bcij"
    reasons = dict(zip(table.column("id").to_pylist(), table.column("reason").to_pylist(), strict=True))
    assert reasons["a"] == "dropped by --drop" and reasons["h"] == "beyond the budget"
    ranks = dict(zip(table.column("id").to_pylist(), table.column("rank").to_pylist(), strict=True))
    assert ranks["a"] is None and {ranks["i"], ranks["j"]} == {1, 2}


def test_keep_and_drop_that_do_not_fit(scores: Path) -> None:
    both = scores.parent / "ids.txt"
    both.write_text("a\nb\n")
    with pytest.raises(InputError, match=r"in --keep and in --drop, such as"):
        run(scores, counts=(4,), keep=str(both), drop=str(both))
    with pytest.raises(InputError, match="budget is 1 rows and --keep"):
        run(scores, counts=(1,), keep=str(both))
    with pytest.raises(InputError, match="8 can be selected"):
        run(scores, counts=(9,), drop=str(both))
    both.write_text("zz\n")
    with pytest.raises(InputError, match=r"1 id\(s\) of .*ids.txt are not in .*: zz"):
        run(scores, counts=(4,), keep=str(both))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs a budget"),
        ({"fractions": (0.1,), "counts": (2,)}, "exactly one budget, 2 given"),
        ({"fractions": (0.0,)}, "out of range"),
        ({"fractions": (1.2,)}, "out of range"),
        ({"counts": (0,)}, "out of range"),
        ({"counts": (11,)}, "10 can be selected"),
        ({"fractions": (0.1, 0.1)}, "twice"),
        ({"threshold": 1.0, "method": "random"}, "no meaning for random"),
        ({"threshold": 1.0, "per_class": True}, "no meaning with --threshold"),
        ({"counts": (1,), "method": "magic"}, "unknown selection method 'magic'"),
        ({"counts": (1,), "params": ("offset=2",)}, "out of range"),
        ({"counts": (1,), "params": ("tau=2",)}, "no parameter 'tau'"),
        ({"counts": (1,), "params": ("key=label2",)}, "no column 'label2'"),
        ({"counts": (1,), "params": ("key=id",)}, "not numbers"),
    ],
)
def test_options_that_do_not_fit_write_nothing(scores: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(scores, **options)
    assert not (scores.parent / "out.parquet").exists()


def test_rows_without_a_score_are_bad_rows(scores: Path) -> None:
    table = pq.read_table(scores).set_column(2, "cg", pa.array([None, float("nan"), *range(8)], pa.float64()))
    pq.write_table(table, scores)
    with pytest.raises(BadRowsError, match=r"2 of 10 rows are bad(?s:.)*out.errors.parquet"):
        run(scores, fractions=(0.3,))
    assert pq.read_table(scores.parent / "out.errors.parquet").column("id").to_pylist() == ["j", "i"]
    assert not (scores.parent / "out.parquet").exists()
    found = run(scores, fractions=(0.3,), max_errors=ErrorAllowance.parse("20%"))
    assert kept(found) == "abc" and found.column("rank").to_pylist()[:2] == [None, None]
    assert found.column("reason").to_pylist()[:2] == ["no score"] * 2


def test_the_order_of_the_rows_changes_nothing(scores: Path) -> None:
    table = pq.read_table(scores)
    shuffled = table.take(pa.array(np.random.default_rng(0).permutation(10)))
    pq.write_table(shuffled, scores.parent / "s.parquet")
    for options in ({"method": "random"}, {}, {"per_class": True, "method": "random"}):
        a = run(scores, f"a{len(options)}.parquet", counts=(5,), **options)  # type: ignore[arg-type]
        b = run(scores.parent / "s.parquet", f"b{len(options)}.parquet", counts=(5,), **options)  # type: ignore[arg-type]
        assert kept(a) == kept(b)
        assert a.sort_by("id").column("rank").equals(b.sort_by("id").column("rank"))


def test_the_seed_matters_to_random_and_is_recorded(scores: Path) -> None:
    picks = {kept(run(scores, f"{seed}.parquet", counts=(5,), method="random", seed=seed)) for seed in range(5)}
    assert len(picks) > 1
    found = read_provenance(ParquetSource(str(scores.parent / "3.parquet")).schema)
    assert found is not None and found["seed"] == 3 and found["parameters"]["count"] == 5


def test_selected_only_writes_the_kept_rows(scores: Path) -> None:
    assert run(scores, counts=(2,), selected_only=True).column("id").to_pylist() == ["b", "a"]


def test_random_needs_no_score_and_no_label(tmp_path: Path) -> None:
    path = write(tmp_path / "ids.parquet", {"id": [3, 1, 2]})
    table = run(path, counts=(2,), method="random")
    assert table.schema.names == ["id", "selected", "rank", "reason"] and table.column("id").type == pa.int64()


def test_an_existing_output_is_kept_without_force(scores: Path) -> None:
    run(scores, counts=(2,))
    with pytest.raises(InputError, match="exists already"):
        run(scores, counts=(3,))
    assert kept(run(scores, counts=(3,), force=True)) == "abc"


@pytest.mark.parametrize(("fraction", "rows", "count"), [(0.29, 100, 29), (0.001, 100, 1), (0.5, 5, 3), (1.0, 7, 7), (0.145, 1000, 145)])
def test_row_counts(fraction: float, rows: int, count: int) -> None:
    assert row_count(fraction, rows) == count


@pytest.fixture
def difficult(tmp_path: Path) -> tuple[Path, Path]:
    """Sixty rows with a score of many ties and a second one, and their features in another order, with rows to spare."""
    rng = np.random.default_rng(0)
    ids = [f"r{i:02d}" for i in range(60)]
    codes = rng.integers(0, 3, 60)
    scores = write(
        tmp_path / "d.scores.parquet",
        {"id": ids, "label": codes, "forgetting": rng.integers(0, 4, 60).astype(float), "loss": rng.random(60)},
    )
    order = rng.permutation(60)
    vectors = (np.eye(3, 5)[codes] + rng.normal(size=(60, 5))).astype(np.float32)
    features = write(
        tmp_path / "f.parquet", {"id": ["extra", *(ids[i] for i in order)], "embedding": [[0.0] * 5, *(vectors[i].tolist() for i in order)]}
    )
    return scores, features


def choose_rows(scores: Path, features: Path | None, output: str = "out.parquet", **options: Any) -> Any:
    options = {"fractions": (0.25,), "params": ("key=forgetting",), **options}
    runtime = Runtime(device="cpu", memory_limit=options.pop("memory_limit", None))
    return select(
        SelectOptions(
            (str(scores),), features=str(features) if features else None, output=str(scores.parent / output),
            runtime=runtime, **options,
        )
    )  # fmt: skip


def test_window_is_the_default_and_writes_its_curve(difficult: tuple[Path, Path]) -> None:
    scores, features = difficult
    outcome = choose_rows(scores, features, fractions=(0.1, 0.5), plot=True)
    assert outcome.summary["method"] == "window" and outcome.summary["tie"] == "loss"
    table = pq.read_table(scores.parent / "out-0.5.parquet")
    assert table.column("selected").to_pylist().count(True) == 30
    ranks = sorted(r for r in table.column("rank").to_pylist() if r is not None)
    assert ranks == list(range(1, 31)), "no order beyond the window"
    assert set(table.column("reason").to_pylist()) == {None, "outside the window"}
    curve = pq.read_table(scores.parent / "out.curve.parquet")
    assert curve.schema.names == [
        "fraction", "count", "method", "start", "window_start", "proxy_accuracy", "best",
    ]  # fmt: skip
    assert curve.column("best").to_pylist().count(True) == 2 and set(curve.column("count").to_pylist()) == {6, 30}
    assert (scores.parent / "out.curve.png").read_bytes().startswith(b"\x89PNG")
    best = [b["start"] for b in outcome.summary["best"]]
    assert [s for s, b in zip(curve["start"].to_pylist(), curve["best"].to_pylist(), strict=True) if b] == best
    found = read_provenance(ParquetSource(str(scores.parent / "out-0.5.parquet")).schema)
    assert found is not None and found["parameters"]["key"] == "forgetting" and found["parameters"]["nested"] is False
    assert [i["name"] for i in found["inputs"]] == ["d.scores.parquet", "f.parquet"]


def test_a_window_is_a_run_of_the_ranking_by_both_scores(difficult: tuple[Path, Path]) -> None:
    scores, features = difficult
    choose_rows(scores, features, params=("key=forgetting", "scope=global"))
    table, given = pq.read_table(scores.parent / "out.parquet"), pq.read_table(scores)
    ranked = np.lexsort((-given["loss"].to_numpy(), -given["forgetting"].to_numpy()))
    places = np.flatnonzero(table["selected"].to_numpy()[ranked])
    assert places.tolist() == list(range(places[0], places[0] + 15))
    choose_rows(scores, None, "id.parquet", params=("key=forgetting", "tie=none"), method="top")
    by_id = pq.read_table(scores.parent / "id.parquet")
    ranked = np.lexsort((np.arange(60), -given["forgetting"].to_numpy()))
    assert np.flatnonzero(by_id["selected"].to_numpy()[ranked]).tolist() == list(range(15))


def test_features_that_do_not_fit_stay_in_the_file(difficult: tuple[Path, Path]) -> None:
    scores, features = difficult
    choose_rows(scores, features)
    choose_rows(scores, features, "b.parquet", memory_limit=1000)
    assert (scores.parent / "out.parquet").read_bytes() == (scores.parent / "b.parquet").read_bytes()
    assert (scores.parent / "out.curve.parquet").read_bytes() == (scores.parent / "b.curve.parquet").read_bytes()
    with pytest.raises(InputError, match=r"needs them in memory(?s:.)*--method window"):
        choose_rows(scores, features, "c.parquet", memory_limit=1000, method="kcenter")


def test_partitions_are_read_from_the_file_where_the_features_do_not_fit(
    difficult: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    scores, features = difficult
    options: dict[str, Any] = {"method": "facility_location", "params": ("parts=3", "neighbors=5", "overlap=0.2")}
    handed: list[str] = []

    def noted(map_blocks: MapBlocks, task: str, function: str, blocks: Any, **more: Any) -> Any:
        handed.extend(block.name for block in blocks if map_blocks.store is not None)
        return call(map_blocks, task, function, blocks, **more)

    call = MapBlocks.__call__
    monkeypatch.setattr(MapBlocks, "__call__", noted)
    outcome = choose_rows(scores, features, **options)
    assert outcome.summary["outputs"][0]["partitions"] == 3
    choose_rows(scores, features, "b.parquet", memory_limit=1000, **options)
    assert (scores.parent / "out.parquet").read_bytes() == (scores.parent / "b.parquet").read_bytes()
    assert handed == ["partition 0", "partition 1", "partition 2"] * 2
    with pytest.raises(InputError, match="needs them in memory"):
        choose_rows(scores, features, "c.parquet", memory_limit=1000, method="facility_location", params=())


def test_blocks_of_a_selection_are_finished_once(difficult: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    scores, features = difficult
    folder = scores.parent
    choose_rows(scores, features, work_dir=folder / "w")
    kept = list((folder / "w").glob("*.safetensors"))
    assert len(kept) == 3, "outputs of windows and of random draws, confirmed samples; the sums are larger than the samples"

    def lost(*anything: Any) -> Any:
        raise AssertionError("it is there already")

    monkeypatch.setattr(proxy_outputs, "count_right", lost)
    choose_rows(scores, features, "b.parquet", work_dir=folder / "w")
    assert (folder / "b.parquet").read_bytes() == (folder / "out.parquet").read_bytes()
    with pytest.raises(AssertionError, match="there already"):
        choose_rows(scores, features, "c.parquet", work_dir=folder / "w", params=("key=forgetting", "step=0.2"))


def test_blocks_of_other_settings_are_not_taken(difficult: tuple[Path, Path]) -> None:
    scores, features = difficult
    folder, kept = scores.parent, list[int]()
    wishes = folder / "wishes.txt"
    wishes.write_text("\n".join(map(str, pq.read_table(scores)["id"].to_pylist()[:9])))
    changes: list[dict[str, Any]] = [
        {},
        {"directions": ("forgetting=easier",)},
        {"params": ("key=loss",)},
        {"params": ("key=forgetting", "tie=none")},
        {"params": ("key=forgetting", "ridge=2")},
        {"fractions": (0.3,)},
        {"per_class": True},
        {"keep": str(wishes)},
        {"drop": str(wishes)},
    ]
    for number, change in enumerate(changes):
        choose_rows(scores, features, f"fresh-{number}.parquet", **change)
        choose_rows(scores, features, f"kept-{number}.parquet", work_dir=folder / "w", **change)
        same = [(folder / f"{name}-{number}.parquet").read_bytes() for name in ("fresh", "kept")]
        assert same[0] == same[1], change
        kept.append(len(list((folder / "w").glob("*.safetensors"))))
    assert kept == sorted(set(kept)), "each has blocks of its own"


def test_much_work_is_kept_until_the_selection_is_whole(difficult: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    scores, features = difficult
    work, put = scores.parent / "out.parquet.work", BlockFolder.put
    kept: list[Path] = []

    def noted(self: BlockFolder, block: str, arrays: Any) -> None:
        put(self, block, arrays)
        kept.extend(work.glob("*.safetensors"))

    monkeypatch.setattr(BlockFolder, "put", noted)
    choose_rows(scores, features)
    assert not kept, "so little is as soon done as kept"
    monkeypatch.setattr(handout, "takes_long", lambda flops: True)
    choose_rows(scores, features, force=True)
    assert len(set(kept)) == 3 and not work.exists()


def test_the_plan_says_how_many_partitions(difficult: tuple[Path, Path]) -> None:
    scores, features = difficult
    options: dict[str, Any] = {"method": "facility_location", "plan": True}
    plan = choose_rows(scores, features, params=("parts=3",), **options).summary["plan"]
    assert plan["partitions"].startswith("3 partitions of about 20 rows, each with about 3 more")
    assert plan["passes_over_data"] == 1
    streamed = choose_rows(scores, features, params=("parts=3",), memory_limit=1000, **options).summary["plan"]
    assert streamed["passes_over_data"] == 9 and streamed["peak_memory_bytes"] < plan["peak_memory_bytes"]
    assert "partitions" not in choose_rows(scores, features, params=(), **options).summary["plan"]


def test_the_plan_says_what_blocks_come_to(difficult: tuple[Path, Path]) -> None:
    """60 samples of a few numbers in classes; of 15 and 30 there are 16 and 11 windows, and 5 random draws each."""
    scores, features = difficult
    classes = len(set(pq.read_table(scores)["label"].to_pylist()))
    width = len(pq.read_table(features)["embedding"][0])
    plan = choose_rows(scores, features, fractions=(0.25, 0.5), plan=True).summary["plan"]
    sums, confirming = 2 * (2 * 60 * width**2), 2 * 60 * width**2
    assert plan["flops"] == sums + confirming + 2 * 60 * width * classes * (16 + 11 + 2 * 5)
    assert plan["blocks"] == 5 and plan["block_bytes"] > 0 and "GFLOP/s (measured here)" in plan["blocks_at_a_time"]
    assert plan["minutes_on_4_machines"].startswith("under 0.1; with a GPU each under 0.1 (at 30 TFLOP/s")
    pairs = choose_rows(scores, features, method="d2", plan=True).summary["plan"]
    assert (pairs["blocks"], pairs["flops"]) == (1, 2 * 60**2 * width)
    parts = choose_rows(scores, features, method="facility_location", params=("parts=3", "overlap=0"), plan=True)
    assert (parts.summary["plan"]["blocks"], parts.summary["plan"]["flops"]) == (3, 3 * 2 * 20**2 * width)
    assert "flops" not in choose_rows(scores, features, method="kcenter", params=(), plan=True).summary["plan"]


def test_without_features_the_error_is_a_line_to_copy(difficult: tuple[Path, Path]) -> None:
    scores, _ = difficult
    table = pq.read_table(scores)
    made = {"inputs": [{"name": "photos.parquet", "sha256": ""}], "score_direction": {}}
    pq.write_table(table.replace_schema_metadata({"prune": json.dumps(made)}), scores)
    with pytest.raises(InputError, match=r"prune score photos.parquet --method forgetting .*--save-features features.parquet"):
        choose_rows(scores, None)
    with pytest.raises(InputError, match="goes by no features"):
        choose_rows(scores, scores, method="random")


def test_embeddings_beside_the_scores_serve(difficult: tuple[Path, Path]) -> None:
    scores, features = difficult
    choose_rows(scores, features)
    table, vectors = pq.read_table(scores), pq.read_table(features)
    by_id = dict(zip(vectors["id"].to_pylist(), vectors["embedding"].to_pylist(), strict=True))
    both = table.append_column("embedding", pa.array([by_id[i] for i in table["id"].to_pylist()]))
    pq.write_table(both, scores.parent / "both.parquet")
    choose_rows(scores.parent / "both.parquet", None, "b.parquet")
    a, b = pq.read_table(scores.parent / "out.parquet"), pq.read_table(scores.parent / "b.parquet")
    assert a.equals(b)


def test_rows_without_a_good_vector_are_bad_rows(difficult: tuple[Path, Path]) -> None:
    scores, features = difficult
    vectors = pq.read_table(features)
    values = vectors["embedding"].to_pylist()
    values[1], values[2], values[3] = [0.0] * 5, None, [1.0, float("nan"), 0.0, 0.0, 0.0]
    pq.write_table(vectors.set_column(1, "embedding", pa.array(values)), features)
    with pytest.raises(BadRowsError, match="2 of 60 rows are bad"):
        choose_rows(scores, features)  # zeros are a vector for what does not divide by its length
    for limit in (None, 1000):
        choose_rows(scores, features, f"{limit}.parquet", max_errors=ErrorAllowance.parse("3"), memory_limit=limit)
        table = pq.read_table(scores.parent / f"{limit}.parquet")
        bad = [r for r, why in zip(table["id"].to_pylist(), table["reason"].to_pylist(), strict=True) if why == "no score or vector"]
        assert sorted(bad) == sorted(vectors["id"].to_pylist()[2:4])
        assert table["selected"].to_pylist().count(True) == 15
    assert (scores.parent / "None.parquet").read_bytes() == (scores.parent / "1000.parquet").read_bytes()


def test_an_id_without_features_is_named(difficult: tuple[Path, Path]) -> None:
    scores, features = difficult
    vectors = pq.read_table(features)
    pq.write_table(vectors.slice(0, 60), features)
    missing = vectors["id"].to_pylist()[-1]
    with pytest.raises(InputError, match=rf"1 id\(s\) of .*d.scores.parquet are not in .*f.parquet: {missing}"):
        choose_rows(scores, features)


def test_several_score_files_are_joined_by_id(difficult: tuple[Path, Path]) -> None:
    scores, _ = difficult
    table = pq.read_table(scores)
    first, second = scores.parent / "a.parquet", scores.parent / "b.parquet"
    pq.write_table(table.select(["id", "label", "forgetting"]), first)
    moved = table.select(["id", "loss"]).take(pa.array(np.random.default_rng(1).permutation(60)))
    pq.write_table(moved, second)
    runtime = Runtime(device="cpu")
    for files, name in (((first, second), "joined.parquet"), ((scores,), "one.parquet")):
        select(
            SelectOptions(
                tuple(map(str, files)), method="top", counts=(20,), params=("key=forgetting",),
                output=str(scores.parent / name), runtime=runtime,
            )
        )  # fmt: skip
    assert pq.read_table(scores.parent / "joined.parquet").equals(pq.read_table(scores.parent / "one.parquet"))
    pq.write_table(moved.slice(1), second)
    with pytest.raises(InputError, match=r"1 id\(s\) of .*a.parquet are not in .*b.parquet"):
        select(SelectOptions((str(first), str(second)), method="top", counts=(20,), runtime=runtime))
    pq.write_table(table.select(["id", "forgetting"]), second)
    with pytest.raises(InputError, match="both have a column 'forgetting'"):
        select(SelectOptions((str(first), str(second)), method="top", counts=(20,), runtime=runtime))


def test_greedy_gains_are_written_and_ranks_end_with_the_largest_budget(difficult: tuple[Path, Path]) -> None:
    scores, features = difficult
    choose_rows(scores, features, method="facility_location", fractions=(), counts=(5, 20), params=())
    small, large = (pq.read_table(scores.parent / f"out-{n}.parquet") for n in (5, 20))
    assert small["rank"].equals(large["rank"]) and small["rank"].null_count == 40
    gains = [g for _, g in sorted((r, g) for r, g in zip(large["rank"].to_pylist(), large["gain"].to_pylist(), strict=True) if r)]
    assert gains == sorted(gains, reverse=True)
    assert small["selected"].to_pylist().count(True) == 5


@pytest.mark.parametrize("method", ["window", "stratified", "kcenter", "moderate", "best", "d2", "random"])
@pytest.mark.parametrize("per_class", [False, True])
def test_every_method_keeps_and_drops_as_told(difficult: tuple[Path, Path], method: str, per_class: bool) -> None:
    scores, features = difficult
    keep, drop = scores.parent / "keep.txt", scores.parent / "drop.txt"
    keep.write_text("r00\nr01\nr02\n")
    drop.write_text("\n".join(f"r{i}" for i in range(50, 60)))
    options: dict[str, Any] = {"params": ()} if method in {"kcenter", "moderate", "random"} else {}
    choose_rows(
        scores, None if method in {"stratified", "random"} else features, method=method, counts=(20,), fractions=(),
        keep=str(keep), drop=str(drop), per_class=per_class, **options,
    )  # fmt: skip
    table = pq.read_table(scores.parent / "out.parquet")
    chosen = set(table.filter(table["selected"])["id"].to_pylist())
    assert len(chosen) == 20 and {"r00", "r01", "r02"} <= chosen
    assert not chosen & {f"r{i}" for i in range(50, 60)}
    assert table.filter(table["selected"])["rank"].to_pylist() and table["id"].to_pylist()[:3] == ["r00", "r01", "r02"]


def test_the_plan_says_whether_the_features_stay_in_the_file(difficult: tuple[Path, Path]) -> None:
    scores, features = difficult
    outcome = choose_rows(scores, features, plan=True)
    assert outcome.summary["plan"]["passes_over_data"] == 1
    assert choose_rows(scores, features, plan=True, memory_limit=1000).summary["plan"]["passes_over_data"] == 7
    assert not (scores.parent / "out.parquet").exists()


def test_a_vector_of_zeros_is_bad_only_for_what_divides_by_its_length(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(30, 4)).astype(np.float32)
    rows[7] = 0.0
    ids = [f"{i:02d}" for i in range(30)]
    path = write(tmp_path / "d.parquet", {"id": ids, "label": [i % 2 for i in range(30)], "embedding": list(rows), "aum": rng.random(30)})
    options = {"fractions": (0.5,), "output": str(tmp_path / "o.parquet"), "force": True, "runtime": Runtime(device="cpu")}
    for method, params, bad in (
        ("kcenter", (), 0), ("kcenter", ("metric=cosine",), 1), ("herding", (), 0), ("moderate", (), 0), ("d2", (), 0), ("window", (), 0),
        ("facility_location", (), 1), ("graph_cut", (), 1), ("best", (), 0), ("best", ("methods=window+graph_cut",), 1),
    ):  # fmt: skip
        allowed = ErrorAllowance(1)
        outcome = select(SelectOptions((str(path),), method=method, params=params, max_errors=allowed, **options))
        assert outcome.summary["rows_bad"] == bad, (method, params)
        if bad:
            assert pq.read_table(tmp_path / "o.errors.parquet")["reason"].to_pylist() == ["zero vector"]
