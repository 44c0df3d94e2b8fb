"""Kernel scores from the command line: modes, kernels of networks, files of kernels, probabilities, kills and refusals."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from making import png, write

Prune = Any


def column(path: Path, name: str) -> np.ndarray:
    return np.asarray(pq.read_table(path)[name])


def provenance(path: Path) -> dict[str, Any]:
    return json.loads(pq.read_schema(path).metadata[b"prune"])  # type: ignore[no-any-return]


def test_both_scores_and_the_gap_from_one_factorisation(prune: Prune, vectors: Path, tmp_path: Path) -> None:
    done = prune(
        "score", vectors, "--method", "cg,ntk_margin,ntk_residual", "-p", "mode=exact", "-p", "ridge=0.1", "-o",
        "s.parquet", "--json",
    )  # fmt: skip
    summary = json.loads(done.stdout)
    assert summary["blocks"] == 1 and summary["leave_one_out_accuracy"] > 0.6
    table = pq.read_table(tmp_path / "s.parquet")
    assert table.schema.names == ["id", "label", "cg", "ntk_margin", "ntk_residual"]
    stated = provenance(tmp_path / "s.parquet")
    assert stated["score_direction"] == {"cg": "harder", "ntk_margin": "easier", "ntk_residual": "harder"}
    assert stated["parameters"]["ntk_margin"]["ridge"] == 0.1 and stated["parameters"]["cg"]["mode"] == "exact"
    prune("score", vectors, "--method", "cg", "-p", "mode=exact", "-p", "ridge=0.1", "-o", "one.parquet")
    assert column(tmp_path / "one.parquet", "cg").tobytes() == column(tmp_path / "s.parquet", "cg").tobytes()
    # select knows the direction, and nothing is left behind
    prune("select", "s.parquet", "--method", "top", "-p", "key=ntk_margin", "--count", 5, "-o", "hard.parquet")
    hard = pq.read_table(tmp_path / "hard.parquet")
    chosen = set(hard.filter(hard["selected"])["id"].to_pylist())
    order = np.argsort(np.asarray(table["ntk_margin"]))[:5]
    assert chosen == {table["id"][int(i)].as_py() for i in order}
    assert not list(tmp_path.glob("*.work"))


def test_the_ridge_that_was_chosen_is_stated(prune: Prune, vectors: Path, tmp_path: Path) -> None:
    done = prune("score", vectors, "--method", "ntk_margin", "-o", "s.parquet", "--json")
    stated = provenance(tmp_path / "s.parquet")["parameters"]["ntk_margin"]
    grid = stated["ridge_choice"]["leave_one_out_accuracy"]
    assert json.loads(done.stdout)["ridge"] == stated["ridge"] and grid[f"{stated['ridge']:g}"] == max(grid.values())
    assert stated["mode"] == "exact" and stated["ridge_choice"]["rows"] == 60


def test_probabilities_without_training(prune: Prune, vectors: Path, tmp_path: Path) -> None:
    prune("score", vectors, "--method", "ntk_margin", "--save-features", "f.parquet", "-o", "s.parquet")
    features = pq.read_table(tmp_path / "f.parquet")
    assert features.schema.names == ["id", "embedding", "prob", "prediction"]
    probs = np.array(features["prob"].to_pylist())
    assert probs.shape == (60, 3) and np.allclose(probs.sum(axis=1), 1, atol=1e-6)
    margin, label = column(tmp_path / "s.parquet", "ntk_margin"), np.asarray(pq.read_table(vectors)["label"])
    assert ((np.asarray(features["prediction"]) == label) == (margin > 0)).all()
    assert provenance(tmp_path / "f.parquet")["parameters"]["ntk_margin"]["temperature"] > 0
    prune(
        "select", "s.parquet", "--method", "neighbor_confidence", "--features", "f.parquet", "-p", "tau=0.2",
        "--fraction", 0.5, "-o", "kept.parquet",
    )  # fmt: skip
    assert np.asarray(pq.read_table(tmp_path / "kept.parquet")["selected"]).sum() == 30


@pytest.mark.parametrize("mode", ["sampled", "exact", "partition", "partition -p blocks=kmeans", "nystrom -p landmarks=20 -p ridge=0.1"])
def test_every_mode_twice_to_the_same_bytes_and_near_exact(prune: Prune, vectors: Path, tmp_path: Path, mode: str) -> None:
    arguments = ["score", vectors, "--method", "cg", "-p", *f"mode={mode}".split(" "), "-p", "block_size=30"]
    prune(*arguments, "-o", "a.parquet")
    prune(*arguments, "-o", "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    prune("score", vectors, "--method", "cg", "-p", "mode=exact", "-o", "e.parquet")
    ranks = [np.argsort(np.argsort(column(tmp_path / f"{name}.parquet", "cg"))) for name in "ae"]
    assert np.corrcoef(*ranks)[0, 1] > 0.5


def test_a_killed_run_goes_on_and_keeps_its_blocks(prune: Prune, vectors: Path, tmp_path: Path) -> None:
    from prune_cli.io.runs.finished import BlockFolder

    arguments = ["score", vectors, "--method", "cg", "-p", "mode=partition", "-p", "block_size=15"]
    prune(*arguments, "-o", "whole.parquet")
    put, made = BlockFolder.put, []

    def dies(self: BlockFolder, block: str, arrays: Any) -> None:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(block)
        put(self, block, arrays)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BlockFolder, "put", dies)
        killed = prune(*arguments, "-o", "killed.parquet", check=130)
    assert b"the same command goes on" in killed.stderr and len(list((tmp_path / "killed.parquet.work").iterdir())) == 2
    with pytest.MonkeyPatch.context() as patch:
        made.clear()
        patch.setattr(BlockFolder, "put", lambda self, block, arrays: (made.append(block), put(self, block, arrays)))
        prune(*arguments, "-o", "killed.parquet")
    assert len(made) == 2
    assert (tmp_path / "killed.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_a_kernel_is_kept_and_taken_for_any_of_its_rows(prune: Prune, vectors: Path, tmp_path: Path) -> None:
    arguments = ["--method", "cg,ntk_margin", "-p", "mode=exact", "-p", "ridge=0.1"]
    prune("score", vectors, *arguments, "-o", "a.parquet", "--save-kernel", "k.safetensors")
    prune("score", vectors, *arguments, "-o", "b.parquet", "--load-kernel", "k.safetensors")
    for name in ("cg", "ntk_margin"):
        np.testing.assert_allclose(column(tmp_path / "b.parquet", name), column(tmp_path / "a.parquet", name), rtol=1e-9)
    from safetensors.numpy import load_file

    kept = load_file(tmp_path / "k.safetensors")
    assert kept["kernel"].shape == (60, 60) and (np.diagonal(kept["kernel"]) == 0.5).all()
    assert (kept["kernel"] == kept["kernel"].T).all()
    ids = json.loads(kept["ids"].tobytes())
    assert ids == sorted(pq.read_table(vectors)["id"].to_pylist())
    # a part of the rows, in another order
    table = pq.read_table(vectors)
    part = table.take(pa.array(np.random.default_rng(0).permutation(60)[:40]))
    pq.write_table(part, tmp_path / "part.parquet")
    prune("score", "part.parquet", *arguments, "-o", "c.parquet")
    told = prune("score", "part.parquet", *arguments, "-o", "d.parquet", "--load-kernel", "k.safetensors")
    assert b"was made from another file" in told.stderr
    np.testing.assert_allclose(column(tmp_path / "d.parquet", "cg"), column(tmp_path / "c.parquet", "cg"), rtol=1e-9)
    # rows it has not, and files that are no kernels
    other = part.set_column(0, "id", pa.array([f"x{i}" for i in range(40)]))
    pq.write_table(other, tmp_path / "other.parquet")
    failed = prune("score", "other.parquet", "--load-kernel", "k.safetensors", check=2)
    assert b"no row for 40 id(s)" in failed.stderr and b"x0" in failed.stderr
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "k.safetensors").read_bytes()[:-9])
    for name in ("cut.safetensors", "a.parquet", "missing"):
        assert b"kernel" in prune("score", vectors, "--load-kernel", name, "-o", "e.parquet", check=2).stderr
    refused = prune("score", vectors, "--method", "moderate", "--save-kernel", "z", check=2)
    assert b"for scores that go by a kernel" in refused.stderr


def test_provenance_says_which_kernel_was_taken(prune: Prune, vectors: Path, tmp_path: Path) -> None:
    prune("score", vectors, "-p", "kernel=relu:3", "-o", "a.parquet", "--save-kernel", "k.safetensors")
    prune("score", vectors, "--method", "cg,ntk_margin", "-o", "b.parquet", "--load-kernel", "k.safetensors")
    stated = provenance(tmp_path / "b.parquet")["parameters"]
    assert stated["cg"]["kernel"] == stated["ntk_margin"]["kernel"] == "relu:3"
    assert "ridge_choice" in stated["ntk_margin"] and stated["load_kernel"] == "k.safetensors"
    np.testing.assert_allclose(column(tmp_path / "b.parquet", "cg"), column(tmp_path / "a.parquet", "cg"), rtol=1e-9)


def test_a_kernel_file_goes_on_after_a_kill(tmp_path: Path) -> None:
    from prune_cli.io.parquet.provenance import Provenance
    from prune_cli.io.runs.kernel_matrix import read_kernel, write_kernel

    rng = np.random.default_rng(0)
    expected = rng.normal(size=(10, 10))
    ids, rows = pa.array([f"a{i}" for i in range(10)]), []

    def fill(matrix: np.ndarray, first: int, last: int) -> None:
        if len(rows) == 2:
            rows.append(-1)
            raise KeyboardInterrupt
        rows.append(first)
        matrix[first:last] = expected[first:last]

    how = (tmp_path / "k", ids, "float64", Provenance("score", "kernel", {}, 0, ()), fill, 3)
    with pytest.raises(KeyboardInterrupt):
        write_kernel(*how)
    assert not (tmp_path / "k").exists()
    write_kernel(*how)
    assert rows == [0, 3, -1, 6, 9]
    assert (read_kernel(tmp_path / "k").matrix_mm == expected).all()
    assert [p.name for p in tmp_path.iterdir()] == ["k"]


def test_a_kernel_of_a_network_is_computed_once_and_nothing_is_left(prune: Prune, pictures: Path, tmp_path: Path, monkeypatch: Any) -> None:
    if importlib.util.find_spec("neural_tangents") is None:
        pytest.skip("the extra ntk is not installed")
    from prune_cli.methods.scores.kernel.pieces.kinds import SidesPiece
    from prune_cli.stages.score.sources.kernel import scores

    arguments = ["score", pictures, "--method", "cg,ntk_margin", "-p", "kernel=nt:cnn5", "-p", "cg.repeats=1", "-p", "ntk_margin.ridge=0.1"]
    filled = []
    fill = scores.fill_matrix
    monkeypatch.setattr(scores, "fill_matrix", lambda *a: (filled.append(a), fill(*a)))

    def dies(*arguments: Any, **more: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SidesPiece, "compute", dies)
        prune(*arguments, "-o", "s.parquet", check=130)
    assert len(filled) == 1 and list((tmp_path / "s.parquet.work").glob("kernel-*.safetensors"))
    prune(*arguments, "-o", "s.parquet")
    assert len(filled) == 1 and {p.name for p in tmp_path.iterdir()} == {"pictures.parquet", "s.parquet"}
    versions = provenance(tmp_path / "s.parquet")["versions"]
    assert {"neural-tangents", "jax"} < set(versions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SidesPiece, "compute", dies)
        prune(*arguments, "-o", "t.parquet", "--precision", "float32", check=130)
    (kept,) = (tmp_path / "t.parquet.work").glob("kernel-*.safetensors")
    prune(*arguments, "-o", "t.parquet")  # in float64: the kernel that is there is of float32, and is computed anew
    assert len(filled) == 3 and not kept.exists()
    assert column(tmp_path / "t.parquet", "cg").tobytes() == column(tmp_path / "s.parquet", "cg").tobytes()
    margin = column(tmp_path / "s.parquet", "ntk_margin")
    assert (margin > 0).mean() > 0.9


def test_plans_compare_the_modes(prune: Prune, vectors: Path, tmp_path: Path) -> None:
    plan = json.loads(prune("score", vectors, "--method", "cg,ntk_margin", "-p", "cg.mode=sampled", "--plan", "--json").stdout)["plan"]
    assert plan["recommended"].startswith("mode=exact")
    assert all(f"with mode={mode}" in plan for mode in ("exact", "partition", "nystrom"))
    assert "all classes" in plan["algorithm"] and "per class" in plan["algorithm"]
    assert {p.name for p in tmp_path.iterdir()} == {"vectors.parquet"}


def test_copies_with_different_labels_are_named(prune: Prune, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(80, 12)).astype(np.float32)
    rows[41] = rows[12]
    labels = [i % 2 for i in range(80)]
    write(tmp_path / "v.parquet", {"id": [f"r{i:02d}" for i in range(80)], "label": labels, "embedding": list(rows)})
    done = prune("score", "v.parquet", "--method", "cg", "--json", "-o", "s.parquet")
    told = json.loads(done.stdout)
    assert told["contradictory_copies"] == 1 and told["contradictory_pairs"] == [["r12", "r41"]]
    assert any("different labels: r12 = r41;" in warning for warning in told["warnings"])


def test_large_pictures_are_refused_with_advice(prune: Prune, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [png(rng.integers(0, 255, (112, 112, 3), dtype=np.uint8)) for _ in range(6)]
    write(tmp_path / "large.parquet", {"image": pictures, "label": [0, 1] * 3})
    refused = prune("score", "large.parquet", "--method", "ntk_margin", check=2)
    assert b"37,632 numbers" in refused.stderr and b"embeddings" in refused.stderr
    prune("score", "large.parquet", "--method", "ntk_margin", "--force")
    prune("score", "large.parquet", "--image-size", 32, "-o", "small.parquet")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["-p", "kernel=tanh"], b"unknown kernel"),
        (["-p", "mode=all"], b"mode='all' does not parse"),
        (["--method", "ntk_margin", "-p", "mode=sampled"], b"exact"),
        (["-p", "kernel=nt:resnet"], b"nt:myrtle5"),
        (["-p", "kernel=nt:missing.py:net"], b"there is no file missing.py"),
        (["-p", "mode=exact", "--precision", "bfloat16"], b"--precision"),
    ],
)
def test_what_is_not_there_is_refused(prune: Prune, vectors: Path, tmp_path: Path, given: list[str], said: bytes) -> None:
    assert said in prune("score", vectors, *given, check=2).stderr
    assert [p.name for p in tmp_path.iterdir()] == ["vectors.parquet"]


def test_a_missing_extra_is_said_with_its_install_line(prune: Prune, vectors: Path, monkeypatch: Any) -> None:
    import importlib.metadata

    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.7.1" if name == "jax" else version(name))
    failed = prune("score", vectors, "-p", "kernel=nt:fc3", check=4)
    assert b"jax below 0.6" in failed.stderr and b"pip install 'prune-cli[ntk]'" in failed.stderr
