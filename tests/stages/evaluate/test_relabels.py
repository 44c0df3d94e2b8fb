"""New labels as files: a recipe's run has them, they clean a manifest, are measured, and are a score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from making import write

from prune_cli.core.errors import InputError
from prune_cli.core.runtime import Runtime
from prune_cli.io.manifests.data import DataOptions
from prune_cli.io.parquet.provenance import read_provenance
from prune_cli.io.parquet.tables import ParquetSource
from prune_cli.stages.evaluate.command import EvaluateOptions, evaluate
from prune_cli.stages.evaluate.relabels import RelabelOptions, relabel
from prune_cli.stages.score.command import score
from prune_cli.stages.score.request import ScoreOptions
from prune_cli.stages.select.command import select
from prune_cli.stages.select.request import SelectOptions
from prune_cli.stages.train.command import train
from prune_cli.stages.train.options import TrainOptions

NAMES = ("cat", "dog", "owl")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three hundred vectors of three named classes, a quarter of the labels wrong."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 300)
    given = np.where(rng.random(300) < 0.25, (true + 1) % 3, true)
    vectors = (6 * np.eye(3, 8)[true] + rng.normal(size=(300, 8))).astype(np.float32)
    names = np.array(NAMES)
    return write(
        tmp_path / "d.parquet",
        {
            "id": [f"r{i:03d}" for i in range(300)],
            "embedding": vectors.tolist(),
            "label": names[given].tolist(),
            "true_label": names[true].tolist(),
        },
    )


def run(data: Path, recipe: str = "elr", **more: Any) -> Path:
    options = TrainOptions(
        DataOptions(str(data)), recipe=recipe, architecture="mlp:16", epochs=8, output=str(data.parent / recipe),
        force=True, runtime=Runtime(device="cpu", batch_size=32), **more,
    )  # fmt: skip
    return Path(train(options).outputs[0])


def test_the_run_says_what_it_would_call_every_row_and_the_rest_follows(data: Path) -> None:
    folder = run(data)
    relabels = pq.read_table(folder / "relabels.parquet")
    assert relabels.schema.names == ["id", "label", "new_label", "p_clean", "confidence"]
    given = pq.read_table(data)
    assert relabels["id"].equals(given["id"]) and relabels["label"].to_pylist() == given["label"].to_pylist()
    changed = np.array(relabels["new_label"].to_pylist()) != np.array(given["label"].to_pylist())
    assert changed.sum() > 40

    new_file = str(folder / "relabels.parquet")
    cleaned = relabel(RelabelOptions(str(data), new_file, output=str(data.parent / "c.parquet")))
    table = pq.read_table(cleaned.outputs[0])
    assert table.schema.names == ["id", "embedding", "label", "true_label", "given_label"]
    assert table["label"].to_pylist() == relabels["new_label"].to_pylist()
    assert table["given_label"].to_pylist() == given["label"].to_pylist()
    assert table["embedding"].equals(given["embedding"]) and table["id"].equals(given["id"])

    measured = evaluate(
        EvaluateOptions(
            folder, DataOptions(str(data)), relabels=str(folder / "relabels.parquet"),
            output=str(data.parent / "report.parquet"), runtime=Runtime(device="cpu"),
        )
    ).summary  # fmt: skip
    true, new = np.array(given["true_label"].to_pylist()), np.array(relabels["new_label"].to_pylist())
    old = np.array(given["label"].to_pylist())
    assert measured["relabel_accuracy"] == (new == true).mean()
    assert measured["label_noise_given"] == (old != true).mean()
    assert measured["errors_corrected"] == (new == true)[old != true].mean() > 0.5
    assert measured["good_broken"] == (new != true)[old == true].mean()
    assert measured["changed_right"] == (new == true)[new != old].mean() > 0.9
    rows = {r["metric"] for r in pq.read_table(data.parent / "report.parquet").to_pylist()}
    assert {"relabel_accuracy", "changed", "label_noise_left"} <= rows

    scored = score(
        ScoreOptions(
            DataOptions(str(data)), methods=("p_clean",), model=str(folder), output=str(data.parent / "s.parquet"),
            runtime=Runtime(device="cpu"),
        )
    )  # fmt: skip
    scores = pq.read_table(scored.outputs[0])
    assert scores["p_clean"].to_pylist() == relabels["p_clean"].to_pylist()
    stated = read_provenance(ParquetSource(scored.outputs[0]).schema)
    assert stated is not None and stated["score_direction"] == {"p_clean": "easier"}
    for file in (scored.outputs[0], str(folder / "relabels.parquet")):
        chosen = select(
            SelectOptions((file,), method="top", params=("key=p_clean", "order=easiest"), fractions=(0.7,),
                          output=str(data.parent / f"{Path(file).stem}.kept.parquet"))
        )  # fmt: skip
        kept = np.array(pq.read_table(chosen.outputs[0])["selected"].to_pylist())
        assert (old != true)[kept].mean() < 0.05


def test_only_rows_that_were_trained_on_are_re_labeled(data: Path) -> None:
    half = write(data.parent / "half.parquet", {"id": [f"r{i:03d}" for i in range(300)], "selected": [i % 2 == 0 for i in range(300)]})
    folder = run(data, subset=str(half))
    assert pq.read_table(folder / "relabels.parquet").num_rows == 150
    outcome = relabel(RelabelOptions(str(data), str(folder / "relabels.parquet"), output=str(data.parent / "c.parquet")))
    table = pq.read_table(outcome.outputs[0])
    odd = [i for i in range(300) if i % 2]
    assert [table["label"][i].as_py() for i in odd] == [table["given_label"][i].as_py() for i in odd]
    assert outcome.summary["rows_with_a_new_label"] == 150 and outcome.summary["labels_changed"] > 10
    options = ScoreOptions(DataOptions(str(data)), methods=("p_clean",), model=str(folder), output=str(data.parent / "s.parquet"))
    with pytest.raises(InputError, match=r"150 id\(s\)"):
        score(options)


@pytest.mark.parametrize("kind", [pa.int64(), pa.int32(), pa.dictionary(pa.int8(), pa.string())])
def test_labels_keep_their_type_and_metadata(tmp_path: Path, kind: pa.DataType) -> None:
    values = pa.array([2, 0, 2], pa.int64()) if pa.types.is_integer(kind) else pa.array(["c", "a", "c"])
    new = pa.array([0, 0, 2], pa.int64()) if pa.types.is_integer(kind) else pa.array(["a", "a", "c"])
    table = pa.table({"id": ["a", "b", "c"], "label": values.cast(kind)}).replace_schema_metadata({"mine": "kept"})
    pq.write_table(table, tmp_path / "d.parquet")
    some = [2, 0]
    columns = {"id": ["c", "a"], "label": values.take(some), "new_label": new.take(some), "p_clean": [0.9, 0.1]}
    write(tmp_path / "r.parquet", columns)
    out = relabel(RelabelOptions(str(tmp_path / "d.parquet"), str(tmp_path / "r.parquet"), output=str(tmp_path / "o.parquet")))
    found = pq.read_table(out.outputs[0])
    assert found.schema.field("label").type == table.schema.field("label").type
    assert found["label"].to_pylist() == new.to_pylist() and found["given_label"].to_pylist() == values.to_pylist()


def relabel_file(tmp_path: Path, **columns: Any) -> Path:
    full = {"id": ["a", "b"], "label": ["x", "y"], "new_label": ["y", "y"], "p_clean": [0.1, 0.9], **columns}
    return write(tmp_path / "r.parquet", {k: v for k, v in full.items() if v is not None})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"new_label": None}, "no column 'new_label': it is not a file of new labels"),
        ({"id": ["a", "z"]}, r"1 id\(s\) of .*r.parquet are not in .*d.parquet: z"),
        ({"label": ["y", "y"]}, r"1 label\(s\) of .*d.parquet are not those .* was made from, such as that of a"),
        ({"new_label": ["q", "y"]}, "unknown class q"),
        ({"new_label": [None, "y"]}, "a row has no new label"),
        ({"p_clean": [float("nan"), 1.0]}, "no p_clean"),
    ],
)
def test_files_that_do_not_go_together(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    data = write(tmp_path / "d.parquet", {"id": ["a", "b", "c"], "label": ["x", "y", "x"]})
    with pytest.raises(InputError, match=message):
        relabel(RelabelOptions(str(data), str(relabel_file(tmp_path, **columns)), output=str(tmp_path / "o.parquet")))
    assert not (tmp_path / "o.parquet").exists()


def test_cleaning_twice_is_refused_and_a_plan_writes_nothing(tmp_path: Path) -> None:
    data = write(tmp_path / "d.parquet", {"id": ["a", "b"], "label": ["x", "y"]})
    options = {"relabels": str(relabel_file(tmp_path)), "output": str(tmp_path / "o.parquet")}
    assert relabel(RelabelOptions(str(data), plan=True, **options)).summary["plan"]["rows"] == 2
    assert not (tmp_path / "o.parquet").exists()
    relabel(RelabelOptions(str(data), **options))
    with pytest.raises(InputError, match="already"):
        relabel(RelabelOptions(str(data), **options))
    with pytest.raises(InputError, match="has a column 'given_label' already"):
        relabel(RelabelOptions(str(tmp_path / "o.parquet"), relabels=options["relabels"], output=str(tmp_path / "p.parquet")))


def test_what_p_clean_and_relabels_need_is_said(data: Path) -> None:
    folder = run(data, "standard")
    assert not (folder / "relabels.parquet").exists()
    out = str(data.parent / "s.parquet")
    with pytest.raises(InputError, match=r"standard has no relabels.parquet(?s:.)*--recipe sop"):
        score(ScoreOptions(DataOptions(str(data)), methods=("p_clean",), model=str(folder), output=out))
    with pytest.raises(InputError, match=r"by itself(?s:.)*--model run"):
        score(ScoreOptions(DataOptions(str(data)), methods=("p_clean",), output=out))
    bare = data.parent / "bare.parquet"
    pq.write_table(pq.read_table(data).drop_columns(["true_label"]), bare)
    with pytest.raises(InputError, match="--relabels needs true labels"):
        evaluate(EvaluateOptions(folder, DataOptions(str(bare)), relabels="r.parquet", output=str(data.parent / "e.parquet")))


@pytest.mark.parametrize(("preset", "recipe"), [("prune4rel-cifar10n", "sop"), ("prune4rel-clothing1m", "dividemix")])
def test_presets_of_the_published_tables(data: Path, preset: str, recipe: str) -> None:
    folder = run(data, recipe, preset=preset)
    stated = read_provenance(ParquetSource(str(folder / "relabels.parquet")).schema)
    assert stated is not None
    parameters = stated["parameters"]["parameters"]
    assert parameters["lr"] == 0.02 and parameters["final_lr_fraction"] == 0.005
    assert parameters.get("lr_v", 100.0) == 100.0 and parameters.get("warmup", 1) == 1
