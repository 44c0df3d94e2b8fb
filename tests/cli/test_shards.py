"""A score in parts: the same bytes as one run, whatever the parts are, and nothing joined that does not belong together."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Prune
from making import write
from waiting import wait_until
from warm import WarmCommands

KERNELS = ["--method", "cg,ntk_margin", "-p", "ntk_margin.mode=partition", "-p", "block_size=16", "-p", "repeats=2"]


def parts_of(prune: Prune, number: int, *arguments: object) -> list[str]:
    """Make so many parts of a score, the last first."""
    names = [f"part-{n}.parquet" for n in range(1, number + 1)]
    for n in range(number, 0, -1):
        prune("score", *arguments, "--shard", f"{n}/{number}", "-o", names[n - 1], "--force")
    return names


@pytest.mark.parametrize("parts", [1, 2, 7])
def test_parts_of_kernel_scores_are_joined_to_the_bytes_of_one_run(prune: Prune, vectors: Path, tmp_path: Path, parts: int) -> None:
    prune("score", vectors, *KERNELS, "-o", "one.parquet")
    names = parts_of(prune, parts, vectors, *KERNELS)
    prune("manifest", "merge", *reversed(names), "-o", "joined.parquet")
    assert (tmp_path / "joined.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()
    assert not list(tmp_path.glob("*.work"))


def test_bad_rows_and_names_of_classes_are_kept(prune: Prune, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(50, 4)).astype(np.float32)
    values[7] = np.nan
    label = pa.array([None if i == 20 else i % 2 for i in range(50)], pa.int64())
    write(
        tmp_path / "data.parquet",
        {"id": rng.permutation(50), "label": label, "embedding": list(values)},
        {"class_names": json.dumps(["a", "b", "never"])},
    )
    options = ["data.parquet", "--method", "cg,ntk_residual", "-p", "ntk_residual.mode=partition", "--max-errors", "2"]
    prune("score", *options, "-o", "one.parquet")
    names = parts_of(prune, 3, *options)
    done = prune("manifest", "merge", *names, "-o", "joined.parquet")
    assert (tmp_path / "joined.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()
    assert b"2 bad row(s) were left out" in done.stderr
    assert len(pq.read_table(tmp_path / "part-2.errors.parquet")) == 2


@pytest.mark.parametrize("parts", [1, 2, 7])
def test_parts_of_looks_at_single_rows(prune: Prune, pictures: Path, tmp_path: Path, parts: int) -> None:
    prune("train", pictures, "--arch", "mlp:8", "--epochs", "1", "-o", "run")
    options = [pictures, "--method", "el2n,entropy,grand", "--model", "run", "--batch-size", "3"]
    prune("score", *options, "-o", "one.parquet")
    names = parts_of(prune, parts, *options)
    prune("manifest", "merge", *names, "-o", "joined.parquet")
    assert (tmp_path / "joined.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()


def test_parts_of_probabilities_may_be_more_than_there_are_rows(prune: Prune, tmp_path: Path) -> None:
    probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    write(tmp_path / "p.parquet", {"id": ["c", "a", "b"], "label": [0, 1, 0], "prob": list(probs)})
    options = ["p.parquet", "--method", "margin", "--batch-size", "1"]
    prune("score", *options, "-o", "one.parquet")
    prune("manifest", "merge", *parts_of(prune, 5, *options), "-o", "joined.parquet")
    assert (tmp_path / "joined.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()
    assert pq.read_table(tmp_path / "joined.parquet")["margin"].to_pylist() == pytest.approx([0.8, 0.6, 0.0])


def test_a_run_takes_what_parts_have_left_in_a_folder(prune: Prune, vectors: Path) -> None:
    for n in (1, 2):
        prune("score", vectors, *KERNELS, "--shard", f"{n}/3", "--work-dir", "w", "-o", f"part-{n}.parquet")
    done = json.loads(prune("score", vectors, *KERNELS, "--work-dir", "w", "-o", "one.parquet", "--json").stdout)
    assert done["blocks"] == 14  # three classes and four blocks of 15, each in two draws
    assert done["blocks_computed"] == 4  # numbers 2, 5, 8, 11
    again = json.loads(prune("score", vectors, *KERNELS, "--work-dir", "w", "-o", "two.parquet", "--json").stdout)
    assert again["blocks_computed"] == 0


def test_a_file_of_other_name_and_the_same_bytes_finds_its_blocks(prune: Prune, vectors: Path, tmp_path: Path) -> None:
    prune("score", vectors, *KERNELS, "--work-dir", "w", "-o", "one.parquet")
    (tmp_path / "other.parquet").write_bytes(vectors.read_bytes())
    options = ["other.parquet", *KERNELS, "--work-dir", "w", "--json"]
    assert json.loads(prune("score", *options, "-o", "two.parquet").stdout)["blocks_computed"] == 0
    assert json.loads(prune("score", *options, "-o", "three.parquet", "--seed", "1").stdout)["blocks_computed"] == 14


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["part-1.parquet", "part-3.parquet"], "1 of 3 parts are missing: 2"),
        (["part-1.parquet", "part-2.parquet", "part-2.parquet", "part-3.parquet"], "part 2 of 3 is given twice"),
        (["part-1.parquet", "part-2.parquet", "other.parquet"], "parameters differ"),
        (["part-1.parquet", "part-2.parquet", "one.parquet"], "is a part of a score, and not all files are parts"),
    ],
)
def test_what_does_not_belong_together_is_not_joined(prune: Prune, vectors: Path, tmp_path: Path, files: list[str], said: str) -> None:
    parts_of(prune, 3, vectors)
    prune("score", vectors, "-p", "ridge=0.5", "--shard", "3/3", "-o", "other.parquet")
    prune("score", vectors, "-o", "one.parquet")
    done = prune("manifest", "merge", *files, "-o", "joined.parquet", check=2)
    assert said in done.stderr.decode() and not (tmp_path / "joined.parquet").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--method", "el2n", "--epochs", "1"], "el2n cannot be done in parts"),
        (["--method", "moderate"], "moderate cannot be done in parts"),
        (["--method", "cg", "--save-kernel", "k.safetensors"], "--save-kernel is of all rows"),
    ],
)
def test_what_cannot_be_divided_says_so(prune: Prune, vectors: Path, options: list[str], said: str) -> None:
    assert said in prune("score", vectors, *options, "--shard", "1/2", check=2).stderr.decode()


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "1/", "a/b", "1/-2"])
def test_a_part_is_named_as_one_of_so_many(prune: Prune, vectors: Path, text: str) -> None:
    assert "write 3/16" in prune("score", vectors, "--shard", text, check=2).stderr.decode()


def test_the_name_of_a_part(prune: Prune, vectors: Path, tmp_path: Path) -> None:
    assert prune("score", vectors, "--shard", "2/3").stdout.decode().strip() == "vectors.scores.2-of-3.parquet"
    assert "needs" not in prune("score", vectors, "--shard", "2/3", "--plan").stderr.decode()


def killed_at(warm: WarmCommands, words: list[str], folder: Path, blocks: int) -> int:
    """Run a command, kill it once so many blocks are there, and return how many are."""
    child = warm.start("-m", "prune_cli", *words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: len(list((folder / "w").glob("*.safetensors"))) >= blocks, child)
    child.kill()
    child.wait()
    return len(list((folder / "w").glob("*.safetensors")))


@pytest.fixture
def larger(tmp_path: Path) -> Path:
    """4,000 vectors, of which a block of 200 takes some milliseconds."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=(4000, 16)).astype(np.float32)
    return write(tmp_path / "larger.parquet", {"id": rng.permutation(4000), "label": rng.integers(0, 4, 4000), "embedding": list(values)})


BLOCKS = ["larger.parquet", "-p", "mode=partition", "-p", "block_size=200", "--work-dir", "w"]


def check_kills(prune: Prune, warm: WarmCommands, folder: Path, more: list[str], blocks: int, moments: list[int]) -> None:
    """Kill at every moment, and see that nothing finished is computed again and that the end is the same."""
    prune("score", *BLOCKS[:-1], "elsewhere", *more, "-o", "whole.parquet")
    before = 0
    for moment in moments:
        there = killed_at(warm, ["score", *BLOCKS, *more, "-o", "s.parquet", "-q"], folder, moment)
        assert there >= before
        before = there
    assert not (folder / "s.parquet").exists() or before == blocks
    done = json.loads(prune("score", *BLOCKS, *more, "-o", "s.parquet", "--json", "--force").stdout)
    assert (done["blocks"], done["blocks_computed"]) == (blocks, blocks - before)
    assert (folder / "s.parquet").read_bytes() == (folder / "whole.parquet").read_bytes()


@pytest.mark.parametrize("more", [[], ["--shard", "2/3"]])
def test_a_killed_run_goes_on(prune: Prune, warm: WarmCommands, larger: Path, tmp_path: Path, more: list[str]) -> None:
    check_kills(prune, warm, tmp_path, more, 7 if more else 20, [2, 5])


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--shard", "1/2"]])
def test_a_run_killed_ten_times_goes_on(prune: Prune, warm: WarmCommands, larger: Path, tmp_path: Path, more: list[str]) -> None:
    check_kills(prune, warm, tmp_path, more, 10 if more else 20, [0, 0, 1, 2, 3, 4, 5, 7, 8, 9])


def test_embeddings_that_do_not_fit_are_mapped_from_a_file(
    prune: Prune, vectors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prune_cli.io.manifests import features as module
    from prune_cli.stages.score import reading

    table = pq.read_table(vectors)
    values = np.stack(table["embedding"].to_numpy())
    values[[3, 40]] = np.nan
    write(tmp_path / "bad.parquet", {"id": table["id"], "label": table["label"], "embedding": list(values)})
    options = ["bad.parquet", "--method", "cg,moderate,prototype", "-p", "center=true", "--max-errors", "2"]
    prune("score", *options, "-o", "here.parquet")
    mapped, allocate = [], module._allocate
    monkeypatch.setattr(reading, "_SHARE_IN_MEMORY", 0.0)
    monkeypatch.setattr(module, "_allocate", lambda *a: mapped.append(a[2]) or allocate(*a))
    prune("score", *options, "-o", "there.parquet", "--work-dir", "w")
    assert [path.name for path in mapped if path is not None] == ["features.npy", "embeddings.npy"]
    assert (tmp_path / "there.parquet").read_bytes() == (tmp_path / "here.parquet").read_bytes()
    assert not (tmp_path / "w" / "spool").exists()
