"""``prune`` and ``python`` as forks of one process that has imported everything, so that each starts at once.

What runs is the command itself, in a process of its own, with its caller's files, folder and environment; only the seconds of importing
are saved. Numeric libraries have one thread, whatever the environment says: that was read when they were loaded.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from waiting import HANGS, wait_until

ROOT = Path(__file__).parent.parent
WARM = (
    "torch", "torchvision", "torchmetrics.classification", "numba", "faiss", "scipy.special", "scipy.linalg", "sklearn.mixture",
    "pyarrow.parquet", "pyarrow.dataset", "pandas", "PIL.Image", "safetensors.torch", "jinja2", "matplotlib.figure",
    "matplotlib.backends.backend_svg", "prune_cli.cli.app", "prune_cli.torch",
    *(f"prune_cli.stages.{stage}.command" for stage in ("score", "select", "train", "evaluate", "compare", "report")),
    *(f"prune_cli.stages.manifest.{name}" for name in ("create", "check", "merge", "exports")),
)  # fmt: skip

_CLIENT = """#!{python} -ISE
import json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({path!r})
files = []
for n in map(int, os.listdir("/dev/fd")):
    try:
        os.get_inheritable(n) and files.append(n)
    except OSError:
        pass  # it was that of the listing
task = json.dumps([{name!r}, sys.argv[1:], os.getpid(), os.getcwd(), {{**os.environ, "WARM_PID": str(os.getpid())}}, files]).encode()
socket.send_fds(server, [len(task).to_bytes(8, "big")], files)
for n in (signal.SIGINT, signal.SIGTERM):
    signal.signal(n, lambda n, frame: server.send(bytes([n])))
server.sendall(task)
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))
said = server.recv(8)
code = os.waitstatus_to_exitcode(int(said)) if said else 99
if code < 0:
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


_HELD = """
import importlib, pathlib, select, signal, socket, sys
place, (module, _, path), count = pathlib.Path(sys.argv[1]), sys.argv[2].partition(":"), int(sys.argv[3])
*owners, name = path.split(".")
owner = importlib.import_module(module)
for part in owners:
    owner = getattr(owner, part)
real, called = getattr(owner, name), [0]
def hold(*given, **more):
    result = real(*given, **more)
    called[0] += 1
    if called[0] == count:
        woken, waker = socket.socketpair()
        waker.setblocking(False)
        signal.set_wakeup_fd(waker.fileno())
        place.touch()
        select.select([woken], [], [])
        signal.set_wakeup_fd(-1)
    return result
setattr(owner, name, hold)
del sys.argv[1:4]
from prune_cli.cli.app import main
main()
"""


class WarmCommands:
    """A folder of commands for the ``PATH`` of a script, and the process that answers them; a context manager.

    Args:
        folder: that of commands which are answered already, as by another process of the tests; None: its own.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._server: subprocess.Popen[bytes] | None = None
        if folder is not None:
            self.folder = folder
            return
        self.folder = Path(tempfile.mkdtemp(prefix="warm"))
        for name in ("prune", "python"):
            client = self.folder / name
            client.write_text(_CLIENT.format(python=sys.executable, path=str(self.folder / "socket"), name=name))
            client.chmod(0o755)
        self._server = subprocess.Popen(
            [sys.executable, __file__, str(self.folder)],
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
            stdin=subprocess.PIPE,  # it ends when this does, as when the tests are killed
            start_new_session=True,  # Ctrl-C is for the tests
        )

    @property
    def python(self) -> str:
        """An interpreter that has imported everything: for what asks for ``sys.executable``."""
        return str(self.folder / "python")

    def __enter__(self) -> WarmCommands:
        wait_until((self.folder / "socket").exists, self._server)
        assert (self.folder / "socket").exists(), "it could not be started"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._server is not None:
            assert self._server.stdin is not None
            self._server.stdin.close()
            self._server.wait()
            shutil.rmtree(self.folder)

    def start(self, *arguments: object, **more: Any) -> WarmProcess:
        """Start ``python`` with these arguments, as `subprocess.Popen` does."""
        return WarmProcess([self.python, *map(str, arguments)], **more)

    def held(self, function: str, count: int, *words: object, cwd: Path, **more: Any) -> WarmProcess:
        """Start a ``prune`` command, and return it standing still where a function has been called so many times.

        It stands still until a signal comes.

        Args:
            function: ``module:name`` or ``module:class.name``.
            count: 1 for the first call.
            words: of the command.
            cwd, more: as of `subprocess.Popen`.
        """
        place, command = self.holding(function, count)
        process = self.start(*command, *words, cwd=cwd, **more)
        wait_until(place.exists, process)
        assert place.exists(), "it ended before"
        return process

    def holding(self, function: str, count: int) -> tuple[Path, list[str]]:
        """Return a file that is there as soon as a command stands still as in `held`, and arguments of ``python`` for it."""
        place = Path(tempfile.mkdtemp(dir=self.folder)) / "held"
        return place, ["-c", _HELD, str(place), function, str(count)]

    def run(self, script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a bash script in a folder, both outputs as one; ``compare`` trains in its own process, one after the other.

        Variables that would change what ``prune`` does are not passed on from outside.
        """
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PRUNE_", "GITHUB_"))}
        environment |= {"PATH": f"{self.folder}:{os.environ['PATH']}", "PRUNE_COMPARE_JOBS": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
        return subprocess.run(
            ["bash", "-c", script], cwd=folder, env=environment | variables,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=HANGS,
        )  # fmt: skip


class WarmProcess(subprocess.Popen[Any]):
    """A warm command under way. Signals go to the fork itself; this ends after it, and as it did."""

    def fork_pid(self) -> int | None:
        """Return the process that does the work, once it is there; None where it is over."""
        place = Path(self.args[0]).parent / f"{self.pid}.pid"  # type: ignore[index, arg-type]
        wait_until(place.exists, self)
        with contextlib.suppress(OSError):
            return int(place.read_text())
        return None

    def send_signal(self, sig: int) -> None:
        """Send a signal to the fork."""
        if (pid := self.fork_pid()) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sig)


def serve(folder: Path) -> None:
    """Import everything, then answer each connection in a fork, until standard input ends."""
    for name in WARM:
        importlib.import_module(name)
    _compile()
    sys.executable = str(folder / "python")
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    running: dict[int, tuple[socket.socket, Path]] = {}
    with socket.socket(socket.AF_UNIX) as server, selectors.DefaultSelector() as selector:
        server.bind(str(folder / "starting"))
        server.listen(64)
        (folder / "starting").rename(folder / "socket")
        for source in (server, woken, sys.stdin):
            selector.register(source, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is sys.stdin:
                    for pid in running:
                        os.kill(pid, signal.SIGKILL)
                        os.waitpid(pid, 0)
                    return
                if key.fileobj is woken:
                    woken.recv(4096)
                    _tell_ends(running, selector)
                elif key.fileobj is server:
                    connection, _ = server.accept()
                    if (asked := _asked(connection)) is None:  # the client is gone already
                        connection.close()
                        continue
                    client = asked[0][2]
                    pid = _fork(*asked, [connection, server, woken, waker, *(c for c, _ in running.values())])
                    running[pid] = connection, folder / f"{client}.pid"
                    (folder / "named").write_text(str(pid))
                    (folder / "named").rename(running[pid][1])
                    selector.register(connection, selectors.EVENT_READ, pid)
                elif key.data in running:
                    for number in _received(key.fileobj) or [signal.SIGKILL]:  # type: ignore[arg-type]
                        os.kill(key.data, number)


def _compile() -> None:
    """Let numba compile what selections run, and torch load what follows a network's operations.

    Not what runs on several threads: those would be missing in a fork.
    """
    import numpy as np
    import torch

    from prune_cli.methods.registry.lookup import find_method
    from prune_cli.methods.selection.choosing import choose
    from prune_cli.methods.selection.contract import ArrayFeatures, Candidates, Run

    torch.export.export(torch.nn.Linear(1, 1), (torch.ones(1, 1),))
    rng = np.random.default_rng(0)
    vectors, probabilities = rng.normal(size=(50, 6)), rng.dirichlet(np.ones(3), 50)
    candidates = Candidates(
        np.arange(50), rng.random(50), codes_n=np.arange(50) % 3,
        features=ArrayFeatures(vectors.astype(np.float32)), probabilities=ArrayFeatures(probabilities.astype(np.float32)),
    )  # fmt: skip
    for name in ("d2", "kcenter", "facility_location", "graph_cut", "neighbor_confidence"):
        params = find_method("selection", name).params_class()()
        choose(name, candidates, params, Run([20], device="cpu"))


def _received(connection: socket.socket) -> bytes:
    """Return the signals that a client passes on; none where it is gone."""
    with contextlib.suppress(OSError):
        return connection.recv(16)
    return b""


def _tell_ends(running: dict[int, tuple[socket.socket, Path]], selector: selectors.BaseSelector) -> None:
    """Tell the clients of forks that are over how they ended."""
    for pid in [*running]:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            connection, place = running.pop(pid)
            place.unlink()
            selector.unregister(connection)
            with contextlib.suppress(OSError), connection:
                connection.sendall(str(status).encode())


def _asked(connection: socket.socket) -> tuple[list[Any], list[int]] | None:
    """Return what a client asks for, and the files it hands over; None where it went away before it had said so."""
    try:
        length, files, _, _ = socket.recv_fds(connection, 8, 250)
        task = connection.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL)
    except OSError:
        return None
    if not task or len(task) < int.from_bytes(length, "big"):
        for file in files:
            os.close(file)
        return None
    return json.loads(task), files


def _fork(task: list[Any], files: list[int], ours: list[socket.socket]) -> int:
    """Return a process that is the command which a client asks for."""
    name, arguments, _, place, environment, numbers = task
    pid = os.fork()
    if pid:
        for file in files:
            os.close(file)
        return pid
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setpgid(0, 0)
    for held in ours:
        held.close()
    _take(files, numbers)
    torch = sys.modules["torch"]
    torch.set_num_threads(torch.get_num_threads())  # its pool is made anew before it has two threads, which would race for that
    sys.stdout.reconfigure(line_buffering=os.isatty(1))
    os.chdir(place)
    os.environ.clear()
    os.environ.update(environment)
    code = 1
    try:
        _run(name, arguments)
        code = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        sys.excepthook(*sys.exc_info())
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):
            pass
        os._exit(code)


def _take(files: list[int], numbers: list[int]) -> None:
    """Give files the numbers that they have in the client."""
    free = max(*files, *numbers) + 1
    moved = [os.dup2(file, free + n) for n, file in enumerate(files)]
    for file in files:
        os.close(file)
    for file, number in zip(moved, numbers, strict=True):
        os.dup2(file, number, inheritable=True)
        os.close(file)


def _run(name: str, arguments: list[str]) -> None:
    how = name
    if name == "python":
        while arguments and arguments[0] in ("-u", "-P"):
            arguments.pop(0)
        how = arguments.pop(0) if arguments else "-"
    first = str(Path.cwd()) if how == "-m" else "" if how in ("-c", "-") else str(Path(how).resolve().parent)
    sys.path[:1] = [first, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    _forget_ours_where_another_is_asked_for()
    if name == "prune":
        sys.argv = [name, *arguments]
        importlib.import_module("prune_cli.cli.app").main()
        return
    if how == "-m":
        sys.argv = arguments
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        return
    if how == "-c":
        source = arguments.pop(0)
    else:
        source = sys.stdin.read() if how == "-" else Path(how).read_text()
    sys.argv = [how, *arguments]
    main = sys.modules["__main__"] = ModuleType("__main__")
    if how not in ("-c", "-"):
        main.__dict__["__file__"] = how
    exec(compile(source, how, "exec"), main.__dict__)


def _forget_ours_where_another_is_asked_for() -> None:
    """Forget the package where a copy of it comes first on the path."""
    first = next((Path(path) for path in sys.path if (Path(path) / "prune_cli").is_dir()), ROOT)
    if first.resolve() != ROOT:
        for name in [name for name in sys.modules if name.partition(".")[0] == "prune_cli"]:
            del sys.modules[name]


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
