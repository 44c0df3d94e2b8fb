"""``prune`` and ``python`` for shell scripts of tests: forks of one process that has imported everything, so that each starts at once.

What runs is the command itself, with the script's files, folder and environment; only the seconds of importing are saved.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

WARM = (
    "torch", "torchvision", "torchmetrics.classification", "numba", "faiss", "scipy.special", "scipy.linalg", "sklearn.mixture",
    "pyarrow.parquet", "pandas", "PIL.Image", "safetensors.torch", "jinja2", "matplotlib.figure",
    "prune_cli.cli.app", "prune_cli.torch",
    *(f"prune_cli.stages.{stage}.command" for stage in ("score", "select", "train", "evaluate", "compare", "report")),
    *(f"prune_cli.stages.manifest.{name}" for name in ("create", "check", "merge", "exports")),
)  # fmt: skip
_CLIENT = """#!{python} -ISE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({path!r})
    task = json.dumps([{name!r}, sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(task).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(task)
    code = server.recv(8)
os._exit(int(code) if code else 99)
"""


class WarmCommands:
    """A folder of commands for the ``PATH`` of a script, and the process that answers them; a context manager."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="warm"))
        socket_path = str(self.folder / "socket")
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1"}
        self._server = subprocess.Popen(
            [sys.executable, __file__, socket_path],
            env=environment,
            stdin=subprocess.PIPE,  # it ends when this does, as when the tests are killed
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("prune", "python"):
            client = self.folder / name
            client.write_text(_CLIENT.format(python=sys.executable, path=socket_path, name=name))
            client.chmod(0o755)

    def __enter__(self) -> WarmCommands:
        assert self._server.stdout is not None
        assert self._server.stdout.readline() == "ready\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.terminate()
        self._server.wait()
        for pipe in (self._server.stdin, self._server.stdout):
            assert pipe is not None
            pipe.close()
        shutil.rmtree(self.folder)

    def run(self, script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a bash script in a folder, both outputs as one; ``compare`` trains in its own process, one after the other.

        Variables that would change what ``prune`` does are not passed on from outside.
        """
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PRUNE_", "GITHUB_"))}
        environment |= {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "PRUNE_COMPARE_JOBS": "1",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "120",
        }
        return subprocess.run(
            ["bash", "-c", script], cwd=folder, env=environment | variables,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300,
        )  # fmt: skip


def serve(path: str) -> None:
    """Import everything, then answer each connection in a fork, until killed or until standard input ends."""
    for name in WARM:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while server in select.select([server, sys.stdin], [], [])[0]:
            connection, _ = server.accept()
            if os.fork() == 0:
                _answer(connection)
            connection.close()


def _answer(connection: socket.socket) -> None:
    """Be the command that a client asks for; tell it the exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    length, files, _, _ = socket.recv_fds(connection, 8, 3)
    task = b""
    while len(task) < int.from_bytes(length, "big"):
        task += connection.recv(1 << 16)
    name, arguments, folder, environment = json.loads(task)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    code = 1
    try:
        _run(name, arguments)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except OSError:
            pass
        connection.sendall(str(code).encode())
        os._exit(0)


def _run(name: str, arguments: list[str]) -> None:
    if name == "prune":
        from prune_cli.cli.app import main

        sys.argv = ["prune", *arguments]
        main()
        return
    sys.path[0] = ""
    if arguments[:1] == ["-c"]:
        source, sys.argv = arguments[1], ["-c", *arguments[2:]]
    else:
        sys.argv = arguments or ["-"]
        source = sys.stdin.read() if sys.argv[0] == "-" else Path(sys.argv[0]).read_text()
    exec(compile(source, sys.argv[0], "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    serve(sys.argv[1])
