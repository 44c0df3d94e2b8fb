"""A Ray cluster of several nodes on this machine, in a process of its own, reached over the loopback address alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from waiting import HANGS, wait_until
from warm import WarmCommands

PATIENT = {"RAY_worker_register_timeout_seconds": f"{HANGS:.0f}"}
"""Ray gives up a process that takes a minute to start, and starts another: on a busy machine that never ends."""

SETTINGS = {
    **PATIENT,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
}
_PRUNE = f"""
from prune_cli.engines import ray
ray._PATIENCE = ray._PROBE_SECONDS = {HANGS}
from prune_cli.cli.app import main
main()
"""
_SERVE = """
import json, os, sys
store, starter, worker = int(sys.argv[1]), *sys.argv[2:]
from ray.cluster_utils import Cluster
from ray._raylet import GcsClient
replies = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
head = {"num_cpus": 0, "include_dashboard": False, "include_log_monitor": False, "object_store_memory": store}
cluster = Cluster(initialize_head=True, head_node_args=head)
nodes = {}
for line in sys.stdin:
    word, name, more = json.loads(line)
    if word == "add":
        os.environ.update(more)
        started = {"setup_worker_path": starter, "worker_path": worker}
        nodes[name] = cluster.add_node(num_cpus=1, memory=8 * 2**30, object_store_memory=store, **started)
        for key in more:
            os.environ.pop(key)
    elif word == "kill":
        cluster.remove_node(nodes.pop(name), allow_graceful=False)
    elif word == "pretend":
        client = GcsClient(address=cluster.address)
        stated = json.loads(client.internal_kv_get(b"CLUSTER_METADATA", b"cluster"))
        client.internal_kv_put(b"CLUSTER_METADATA", json.dumps({**stated, **more}).encode(), True, b"cluster")
    replies.write(json.dumps(cluster.address) + "\\n")
    replies.flush()
cluster.shutdown()
"""


def warm_workers(warm: WarmCommands) -> list[str]:
    """Return what Ray starts a worker with, and what that is then to run, as Ray's parameters have them."""
    return [warm.python, str(Path(__file__).with_name("ray_worker.py"))]


class LocalCluster:
    """A cluster whose head has no cores; nodes of one core each are added, and lost without a word.

    Its workers and the commands that run on it are forks.

    Args:
        warm: what they are forks of.
        store: bytes of each node's object store.
    """

    def __init__(self, warm: WarmCommands, store: int = 200 * 2**20) -> None:
        self._warm, self._store = warm, store

    def __enter__(self) -> LocalCluster:
        self.environment = {n: v for n, v in os.environ.items() if not n.startswith("RAY_")} | SETTINGS
        self._control = Path(tempfile.mkdtemp(prefix="cluster"))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(self._store), *warm_workers(self._warm)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=self.environment,
        )  # fmt: skip
        self.address = self._ask("address")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(HANGS)
        shutil.rmtree(self._control)

    def add(self, name: str, **environment: str) -> None:
        """Add a node, whose processes have these variables."""
        self._ask("add", name, {"NODE_CONTROL": str(self._control), "NODE_NAME": name, **environment})

    def kill(self, name: str) -> None:
        """Kill a node and all that runs there."""
        self._ask("kill", name)

    def hold(self, name: str) -> None:
        """Let a node begin a block and never end it, and let the others wait for that."""
        (self._control / "lose").write_text(name)

    def lose(self, name: str, child: subprocess.Popen[str], ready: Callable[[], object]) -> None:
        """Kill the node that is held, once it has begun a block of a command and something more is so."""
        begun = self._control / "begun"
        try:
            wait_until(lambda: begun.exists() and ready(), child)
            self.kill(name)
        finally:
            (self._control / "lose").unlink()
            begun.unlink(missing_ok=True)

    def pretend(self, **stated: str) -> None:
        """Let the cluster say other things of itself, as of its versions."""
        self._ask("pretend", "", stated)

    def start(self, words: list[object], folder: Path) -> subprocess.Popen[str]:
        """Start a command on it."""
        more = ["--engine", "ray", "--address", self.address]
        return self._warm.start(
            "-c", _PRUNE, *words, *more,
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment,
        )  # fmt: skip

    def run(self, words: list[object], folder: Path) -> subprocess.CompletedProcess[str]:
        """Run a command on it."""
        with self.start(words, folder) as child:
            out, err = child.communicate(timeout=HANGS)
        return subprocess.CompletedProcess(words, child.returncode, out, err)

    def _ask(self, word: str, name: str = "", more: dict[str, str] | None = None) -> Any:
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps([word, name, more or {}]) + "\n")
        process.stdin.flush()
        reply = process.stdout.readline()
        assert reply, "the cluster is gone"
        return json.loads(reply)
