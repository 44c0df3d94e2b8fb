"""Blocks of work on a Ray cluster: the one whose address the user names, else one of this machine's own that nobody else can reach.

This module imports ray inside functions only; it is the extra ``ray``. Ray brings a lost block back by itself: its worker or node is
gone, and the block runs again elsewhere. What is finished is kept by whoever asked for it (`prune_cli.engines.handout.MapBlocks`).
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import secrets
import socket
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from prune_cli import __version__
from prune_cli.core import errors
from prune_cli.core.errors import InputError, PruneError, UnavailableError
from prune_cli.core.progress import Progress
from prune_cli.core.runtime import format_size
from prune_cli.engines.engine import Arrays, Block

INSTALL = "pip install 'prune-cli[ray]'"
RETRIES = 5
"""How often a block runs again whose worker or node was lost."""

_PATIENCE = 5.0  # seconds until an address that does not answer is given up
_PROBE_SECONDS = 60.0  # that a node may take to start its first process

_Reply = tuple[dict[str, Any], dict[str, Any]]


@dataclass(frozen=True)
class RayEngine:
    """A cluster that this process has joined; see `open_ray`.

    Args:
        shown: what to call it in a message.
        gpu: whether each block gets a GPU of its own.
    """

    shown: str
    gpu: bool = False
    elsewhere: ClassVar[bool] = True

    def run(
        self, function: str, blocks: Sequence[Block], shared: Arrays, progress: Progress, *, in_threads: bool = False
    ) -> Generator[tuple[int, Arrays], None, None]:
        """Yield (number, arrays) as blocks are done; see `prune_cli.engines.engine.Engine`.

        Raises:
            PruneError: what a block raised; a block was lost again and again; the object store is full.
            InputError: no node has the memory or the GPU that a block takes.
        """
        import ray

        task = ray.remote(_make_task())
        needs = {"num_cpus": 1, "num_gpus": int(self.gpu), "max_retries": RETRIES}
        self._require_room(max((block.nbytes for block in blocks), default=0))
        with _told(self.shown):
            common = ray.put(dict(shared)) if shared else {}
        waiting = iter(enumerate(blocks))
        running: dict[Any, int] = {}
        try:
            while True:
                while len(running) < self._at_once() and (ahead := next(waiting, None)) is not None:
                    number, block = ahead
                    with _told(self.shown):
                        arrays = ray.put(dict(block.gather()))
                        sized = task.options(**needs, **({"memory": block.nbytes} if block.nbytes else {}))
                        running[sized.remote(__version__, function, dict(block.values), arrays, common)] = number
                if not running:
                    return
                done, _ = ray.wait(list(running), num_returns=1, timeout=1.0)
                for reference in done:
                    with _told(self.shown):
                        said, made = ray.get(reference)
                    _raise_what_was_said(said, self.shown)
                    yield running.pop(reference), made
        finally:
            for reference in running:
                with contextlib.suppress(Exception):
                    ray.cancel(reference, force=True)

    def _at_once(self) -> int:
        """Return how many blocks are handed out at a time: enough that no core waits for the next."""
        import ray

        return max(2, 2 * int(ray.cluster_resources().get("GPU" if self.gpu else "CPU", 1)))

    def _require_room(self, nbytes: int) -> None:
        import ray

        alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        most = max((node.get("memory", 0) for node in alive), default=0)
        if nbytes > most:
            raise InputError(
                f"a block takes {format_size(nbytes)} of memory, and no node of {self.shown} has more than {format_size(most)}",
                "use smaller blocks (-p block_size=N, --precision float32), or larger nodes",
            )
        if self.gpu and not any(node.get("GPU", 0) >= 1 for node in alive):
            raise UnavailableError(f"no node of {self.shown} has a GPU", "use --device cpu, or nodes with GPUs")


@contextlib.contextmanager
def open_ray(address: str | None, cores: int, device: str) -> Iterator[RayEngine]:
    """Join a cluster for a while: every node was asked whether it can do our work.

    Args:
        address: ``HOST:PORT`` or ``ray://HOST:PORT``; None: the variable RAY_ADDRESS, and without that a cluster of this machine
            alone, with no dashboard, which listens on the loopback address and is gone afterwards.
        cores: of such a cluster of our own.
        device: ``auto`` takes GPUs where the cluster has them.
    Raises:
        InputError: nothing answers there, or what answers is no cluster that we may join.
        UnavailableError: ray or our package is missing there or here, or in another version.
    """
    own = address is None and not os.environ.get("RAY_ADDRESS")
    place = "local" if own else str(address or os.environ["RAY_ADDRESS"])
    shown = "the local cluster" if own else f"the cluster at {place}"
    _set_environment(own)
    try:
        import ray
    except ImportError:
        raise UnavailableError("--engine ray needs ray, which is not installed", INSTALL) from None
    if not own:
        _require_answer(place)
    with contextlib.redirect_stdout(sys.stderr):  # where ray prints what it hears of lost nodes
        try:
            alone: dict[str, Any] = {"num_cpus": cores, "include_dashboard": False} if own else {}
            with _without_stderr():
                ray.init(address=place, log_to_driver=False, logging_level="ERROR", **alone)
        except Exception as error:
            raise _refusal(error, place) from None
        try:
            gpu = device.startswith("cuda") or (device == "auto" and ray.cluster_resources().get("GPU", 0) >= 1)
            _probe(shown)
            yield RayEngine(shown, gpu)
        finally:
            ray.shutdown()


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Drop what libraries of C++ write to standard error: what it is about is raised, and in ray's own log files."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _set_environment(own: bool) -> None:
    """Say what ray reads when it is loaded: no usage statistics; a cluster of our own is for this process alone."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "5")  # seconds until a cluster that answers is not joined
    if own:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # the loopback address on every system
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _require_answer(place: str) -> None:
    """Raise where nothing listens: ray itself would try for minutes."""
    found = re.fullmatch(r"(?:ray://)?(?P<host>\[[^]]+\]|[^:/\s]+):(?P<port>[0-9]{1,5})", place)
    if place == "auto":
        return
    if found is None:
        raise InputError(f"--address {place!r} is not HOST:PORT", "write it as 10.0.0.1:6379, or ray://10.0.0.1:10001")
    host, port = found["host"].strip("[]"), int(found["port"])
    try:
        socket.create_connection((host, port), timeout=_PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"no Ray cluster answers at {place}: {getattr(error, 'strerror', None) or error}",
            "check the address (ray status, on a node of it), or leave out --address for a cluster of this machine alone",
        ) from None


def _refusal(error: Exception, place: str) -> PruneError:
    """Return what to tell of a cluster that could not be joined."""
    text = " ".join(f"{error} {error.__cause__ or ''}".split())
    if "ersion mismatch" in text:
        theirs = re.search(r"started with:?\s*Ray: (\S+)\s*Python: (\S+)", text)
        named = f"Ray {theirs[1]} and Python {theirs[2]}" if theirs else "another version of Ray or Python"
        here = f"Ray {importlib.metadata.version('ray')} and Python {platform.python_version()}"
        cure = f"pip install 'ray=={theirs[1]}' with Python {theirs[2]}" if theirs else "install the same versions"
        return UnavailableError(f"the cluster at {place} runs {named}, and here is {here}", cure)
    if "Authentication" in text:
        return InputError(
            f"the cluster at {place} does not take our token, or we have none",
            "set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, to that of the cluster",
        )
    return InputError(
        f"the cluster at {place} cannot be joined: {text[:300]}",
        "run this on a node of it, or name its client port: --address ray://HOST:10001",
    )


def _probe(shown: str) -> None:
    """Ask every node whether it has our package, of this version."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(_make_task())
    asked = {}
    for node in ray.nodes():
        if node["Alive"] and node["Resources"].get("CPU", 0) >= 1:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked[task.options(num_cpus=0, scheduling_strategy=there).remote(__version__, "", {}, {}, {})] = node
    done, late = ray.wait(list(asked), num_returns=len(asked), timeout=_PROBE_SECONDS) if asked else ([], [])
    if not done:
        raise InputError(f"no node of {shown} has begun any work within {_PROBE_SECONDS:.0f} s", "check it: ray status")
    for reference in late:
        ray.cancel(reference, force=True)
    for reference in done:
        try:
            said, _ = ray.get(reference)
        except ray.exceptions.RayError:  # it is gone already: the others are enough
            continue
        _raise_what_was_said(said, f"node {asked[reference]['NodeManagerAddress']} of {shown}")


def _make_task() -> Callable[..., _Reply]:
    """Return what a worker runs: pickled by ray as code, because it has no name to import it by, so that it can say what is missing."""

    def task(version: str, function: str, values: dict[str, Any], arrays: Mapping[str, Any], shared: Mapping[str, Any]) -> _Reply:
        try:
            import prune_cli
            from prune_cli.core.errors import PruneError
            from prune_cli.engines.threads import run_block
        except ImportError as error:
            return {"missing": str(error)}, {}
        if prune_cli.__version__ != version:
            return {"version": prune_cli.__version__}, {}
        if not function:
            return {}, {}
        try:
            return {}, dict(run_block(function, values, {**shared, **arrays}))
        except PruneError as error:
            return {"error": type(error).__name__, "message": error.message, "cure": error.cure}, {}

    return task


def _raise_what_was_said(said: Mapping[str, Any], where: str) -> None:
    cure = f"on every node: pip install 'prune-cli[ray]=={__version__}'"
    if "missing" in said:
        raise UnavailableError(f"{where} cannot run prune: {said['missing']}", cure)
    if "version" in said:
        raise UnavailableError(f"{where} has prune {said['version']}, and here is {__version__}", cure)
    if "error" in said:
        raise getattr(errors, said["error"], PruneError)(said["message"], said["cure"])


@contextlib.contextmanager
def _told(shown: str) -> Iterator[None]:
    """Turn what ray says of lost work and of its store into a message for the user."""
    import ray

    lost = ray.exceptions
    try:
        yield
    except (lost.ObjectStoreFullError, lost.OutOfDiskError) as error:
        raise InputError(
            f"the object store of {shown} is full: {_first_line(error)}",
            "use smaller blocks (-p block_size=N), or start the nodes with a larger --object-store-memory or more disk",
        ) from None
    except lost.OutOfMemoryError as error:
        raise PruneError(
            f"a node of {shown} ran out of memory: {_first_line(error)}",
            "use smaller blocks (-p block_size=N, --precision float32); the same command goes on from the blocks that are done",
        ) from None
    except lost.RayTaskError as error:
        raise error.cause if isinstance(error.cause, Exception) else error  # noqa: B904 -- what the work itself raised
    except lost.RayError as error:
        raise PruneError(
            f"a block was lost {RETRIES + 1} times on {shown}: {type(error).__name__}: {_first_line(error)}",
            "look at the cluster (ray status); the same command goes on from the blocks that are done",
        ) from None


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
