"""Blocks on a Ray cluster: the same bytes, nothing open to others, and one line where it cannot be."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clusters import PATIENT, LocalCluster
from conftest import Prune
from making import png, write
from waiting import HANGS
from warm import WarmCommands

ray = pytest.importorskip("ray", reason="the extra ray is not installed")

SCORE = ["--method", "cg,ntk_margin", "-p", "cg.repeats=1", "-p", "ntk_margin.mode=partition", "-p", "ntk_margin.ridge=0.1"]


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | PATIENT


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """1,200 vectors in four classes."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=(1200, 16)).astype(np.float32)
    return write(tmp_path / "many.parquet", {"id": rng.permutation(1200), "label": rng.integers(0, 4, 1200), "embedding": list(values)})


def test_a_cluster_of_its_own_gives_the_same_bytes_and_listens_to_nobody(prune: Prune, vectors: Path) -> None:
    script = """
import sys
from prune_cli.cli.app import invoke
from prune_cli.engines import ray as engine
from pathlib import Path

def listening():
    found = []
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(name).read_text().splitlines()[1:]:
            _, local, _, state = line.split()[:4]
            if state == "0A":
                found.append(local)
    return set(found)

before = listening()
probe = engine._probe
def looked(shown):
    probe(shown)
    opened = listening() - before
    assert opened, "nothing was started"
    loopback = ("0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000")
    print("OPEN", [place for place in opened if place.split(":")[0] not in loopback], file=sys.stderr)
engine._probe = looked
engine._PATIENCE = engine._PROBE_SECONDS = 3600.0
sys.exit(invoke(sys.argv[1:]))
"""
    if not Path("/proc/net/tcp").exists():
        pytest.skip("only Linux tells who listens")
    prune("score", vectors, *SCORE, "-o", "here.parquet")
    words = ["score", vectors, *SCORE, "--engine", "ray", "-o", "there.parquet"]
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, words)],
        cwd=vectors.parent, capture_output=True, text=True, timeout=HANGS, env=clean_environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "OPEN []" in done.stderr
    assert (vectors.parent / "there.parquet").read_bytes() == (vectors.parent / "here.parquet").read_bytes()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nonsense", "is not HOST:PORT"),
        ("127.0.0.1:{closed}", "no Ray cluster answers at 127.0.0.1"),
        ("no-such-host.invalid:6379", "no Ray cluster answers at no-such-host.invalid:6379"),
    ],
)
def test_a_wrong_address_is_told_at_once(prune: Prune, vectors: Path, monkeypatch: pytest.MonkeyPatch, address: str, said: str) -> None:
    monkeypatch.setattr(ray, "init", None)  # which would try for minutes
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = address.format(closed=unused.getsockname()[1])
    done = prune("score", vectors, "--engine", "ray", "--address", address, "-o", "s.parquet", check=2)
    assert said in done.stderr.decode()
    assert not (vectors.parent / "s.parquet").exists()


def test_an_address_needs_its_engine(prune: Prune, vectors: Path) -> None:
    assert b"add --engine ray" in prune("score", vectors, "--address", "h:1", check=2).stderr
    assert b"use one of: local, ray" in prune("score", vectors, "--engine", "spark", check=2).stderr


def test_a_missing_ray_is_an_install_line(prune: Prune, vectors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    done = prune("score", vectors, "--engine", "ray", check=4)
    assert b"pip install 'prune-cli[ray]'" in done.stderr


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (
            "Version mismatch: The cluster was started with: Ray: 2.9.0 Python: 3.10.4 This process was started with",
            4,
            "runs Ray 2.9.0 and Python 3.10.4",
        ),
        ("AuthenticationError: InvalidAuthToken", 2, "does not take our token"),
        ("GCS went away", 2, "cannot be joined: GCS went away"),
    ],
)
def test_what_a_cluster_refuses_is_one_line(
    prune: Prune, vectors: Path, monkeypatch: pytest.MonkeyPatch, text: str, code: int, said: str
) -> None:
    def refuses(**options: Any) -> None:
        raise RuntimeError(text)

    monkeypatch.setattr(ray, "init", refuses)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        done = prune("score", vectors, "--engine", "ray", "--address", address, "-o", "s.parquet", check=code)
    assert said in done.stderr.decode() and not (vectors.parent / "s.parquet").exists()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ray.exceptions.ObjectStoreFullError("no room"), "the object store of the cluster at h:1 is full: no room"),
        (ray.exceptions.OutOfDiskError("disk"), "the object store of the cluster at h:1 is full"),
        (ray.exceptions.OutOfMemoryError("killed"), "a node of the cluster at h:1 ran out of memory: killed"),
        (ray.exceptions.WorkerCrashedError(), "a block was lost 6 times on the cluster at h:1"),
    ],
)
def test_what_a_cluster_has_no_more_of_is_one_line(error: Exception, said: str) -> None:
    from prune_cli.core.errors import PruneError
    from prune_cli.engines.ray import _told

    with pytest.raises(PruneError, match=said) as raised, _told("the cluster at h:1"):
        raise error
    assert raised.value.exit_code == 2 and raised.value.cure


@pytest.fixture(scope="module")
def cluster(warm: WarmCommands) -> Iterator[LocalCluster]:
    """Two nodes of a core each beside the head."""
    with LocalCluster(warm) as found:
        found.add("first")
        found.add("second")
        yield found


def test_a_node_that_is_lost_costs_its_blocks_alone(cluster: LocalCluster, prune: Prune, many: Path) -> None:
    folder, words = many.parent, ["score", many, *SCORE, "-p", "block_size=100"]
    prune(*words, "-o", "here.parquet")
    cluster.add("third")
    cluster.hold("third")
    with cluster.start([*words, "--work-dir", "w", "-o", "there.parquet", "--json"], folder) as child:
        cluster.lose("third", child, lambda: len(list((folder / "w").glob("*.safetensors"))) >= 3)
        out, err = child.communicate(timeout=HANGS)
    assert child.returncode == 0, err
    assert json.loads(out)["blocks_computed"] == json.loads(out)["blocks"] == 16
    assert (folder / "there.parquet").read_bytes() == (folder / "here.parquet").read_bytes()


def test_a_block_that_no_node_has_the_memory_for_is_refused(cluster: LocalCluster, warm: WarmCommands, many: Path) -> None:
    words = ["score", many, "-p", "mode=partition", "--engine", "ray", "--address", cluster.address]
    script = (
        "import sys\nfrom prune_cli.stages.score.sources.kernel import work\nfrom prune_cli.cli.app import invoke\n"
        "work.BLOCK_PROCESS_BYTES = 2**40\nsys.exit(invoke(sys.argv[1:]))"
    )
    done = subprocess.run(
        [warm.python, "-c", script, *map(str, words), "-o", "s.parquet"],
        cwd=many.parent, capture_output=True, text=True, timeout=HANGS, env=cluster.environment,
    )  # fmt: skip
    assert done.returncode == 2 and "a block takes 1.0 TiB of memory, and no node of the cluster at" in done.stderr
    assert not (many.parent / "s.parquet").exists()


def test_workers_without_the_package_are_told(cluster: LocalCluster, many: Path, tmp_path: Path) -> None:
    broken = tmp_path / "shadow" / "prune_cli"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('No module named prune_cli')")
    cluster.add("bare", PYTHONPATH=str(broken.parent))
    try:
        done = cluster.run(["score", many, "-o", "s.parquet"], many.parent)
    finally:
        cluster.kill("bare")
    assert done.returncode == 4, done.stderr
    assert "cannot run prune: No module named prune_cli" in done.stderr and "on every node: pip install" in done.stderr
    assert not (many.parent / "s.parquet").exists()


def test_a_token_that_is_not_that_of_the_cluster_is_told(cluster: LocalCluster, warm: WarmCommands, many: Path) -> None:
    words = ["score", many, "--engine", "ray", "--address", cluster.address, "-o", "s.parquet"]
    done = subprocess.run(
        [warm.python, "-m", "prune_cli", *map(str, words)],
        cwd=many.parent, capture_output=True, text=True, timeout=HANGS,
        env={**cluster.environment, "RAY_AUTH_TOKEN": "f" * 64},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "does not take our token" in done.stderr and not (many.parent / "s.parquet").exists()


@pytest.mark.parametrize(
    ("stated", "said"), [({"ray_version": "2.1.0"}, "runs Ray 2.1.0"), ({"python_version": "3.10.4"}, "and Python 3.10.4, and here is Ray")]
)
def test_a_cluster_of_another_version_is_told(cluster: LocalCluster, many: Path, stated: dict[str, str], said: str) -> None:
    cluster.pretend(**stated)
    try:
        done = cluster.run(["score", many, "-o", "s.parquet"], many.parent)
    finally:
        cluster.pretend(ray_version=ray.__version__, python_version=platform.python_version())
    assert done.returncode == 4, done.stderr
    assert said in done.stderr and "pip install 'ray==" in done.stderr
    assert not (many.parent / "s.parquet").exists()


def test_a_network_looks_at_pictures_on_the_cluster(cluster: LocalCluster, prune: Prune, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [png(rng.integers(0, 255, (8, 8), dtype=np.uint8)) for _ in range(40)]
    pictures[5] = b"no picture"
    write(tmp_path / "p.parquet", {"id": list(range(40)), "image": pictures, "label": [n % 2 for n in range(40)]})
    options = ["p.parquet", "--max-errors", "2"]
    prune("train", *options, "--arch", "resnet9:4", "--epochs", "1", "-o", "run")
    words = ["score", *options, "--method", "el2n,grand", "--model", "run", "--batch-size", "4"]
    prune(*words, "--save-features", "f1.parquet", "-o", "here.parquet")
    there = [*words, "--save-features", "f2.parquet", "--work-dir", "w", "-o", "there.parquet", "-q"]
    done = cluster.run(there, tmp_path)
    assert done.returncode == 0, done.stderr
    for ours, theirs in (("here", "there"), ("f1", "f2"), ("here.errors", "there.errors")):
        assert (tmp_path / f"{ours}.parquet").read_bytes() == (tmp_path / f"{theirs}.parquet").read_bytes()
    assert list((tmp_path / "w").glob("*.safetensors"))


@pytest.fixture
def scored(tmp_path: Path) -> list[object]:
    """1,000 vectors around twenty centres with probabilities, and the words that select of them by partitions."""
    rng = np.random.default_rng(3)
    values = (rng.normal(size=(20, 16))[rng.integers(0, 20, 1000)] + 0.1 * rng.normal(size=(1000, 16))).astype(np.float32)
    probs = rng.dirichlet(np.ones(4), 1000).astype(np.float32)
    table = {
        "id": rng.permutation(1000),
        "label": rng.integers(0, 4, 1000),
        "loss": rng.gamma(2.0, size=1000),
        "embedding": list(values),
        "prob": list(probs),
    }
    write(tmp_path / "scored.parquet", table)
    return ["select", "scored.parquet", "--method", "neighbor_confidence", "--count", "100", "-p", "parts=7"]


@pytest.mark.slow
def test_a_selection_by_partitions_survives_a_lost_node(cluster: LocalCluster, prune: Prune, scored: list[object], tmp_path: Path) -> None:
    prune(*scored, "-o", "here.parquet")
    cluster.add("third")
    cluster.hold("third")
    with cluster.start([*scored, "--work-dir", "w", "-o", "there.parquet", "-q"], tmp_path) as child:
        cluster.lose("third", child, lambda: list((tmp_path / "w").glob("*.safetensors")))
        _, err = child.communicate(timeout=HANGS)
    assert child.returncode == 0, err
    assert (tmp_path / "there.parquet").read_bytes() == (tmp_path / "here.parquet").read_bytes()


@pytest.mark.parametrize(
    "words",
    [["--method", "window", "-p", "key=loss"], ["--method", "neighbor_confidence"], ["--method", "d2", "-p", "key=loss", "--per-class"]],
)
def test_a_selection_at_once_has_blocks_too(
    cluster: LocalCluster, prune: Prune, scored: list[object], tmp_path: Path, words: list[object]
) -> None:
    words = [*scored[:2], *words, "--count", "100"]
    prune(*words, "-o", "here.parquet")
    done = cluster.run([*words, "--work-dir", "w", "-o", "there.parquet", "-q"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "there.parquet").read_bytes() == (tmp_path / "here.parquet").read_bytes()
    assert list((tmp_path / "w").glob("*.safetensors"))


def test_a_selection_without_blocks_needs_no_engine(prune: Prune, scored: list[object], tmp_path: Path) -> None:
    done = prune(*scored[:2], "--method", "random", "--count", "5", "--engine", "ray", "-o", "s.parquet", check=2)
    assert "random has none" in done.stderr.decode() and "use one of: window, best," in done.stderr.decode()
    assert not (tmp_path / "s.parquet").exists()


def test_finished_partitions_are_taken(prune: Prune, scored: list[object], tmp_path: Path) -> None:
    from prune_cli.methods.selection.confidence import partitions as module

    prune(*scored, "-o", "whole.parquet", "--work-dir", "w")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "pick_in_partition", None)
        prune(*scored, "-o", "again.parquet", "--work-dir", "w")
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    prune(*scored, "-o", "own.parquet")
    assert not (tmp_path / "own.parquet.work").exists()
