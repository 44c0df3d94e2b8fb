"""Small manifests that many tests need, made by hand."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from making import png, write
from object_stores import SmallStore
from waiting import HANGS
from warm import WarmCommands

_WARM, _FRESH = "WARM_COMMANDS", "WARM_FRESH"
"""Variables of a run in several processes: the folder of the commands they share, and an interpreter that has loaded nothing."""
_LONG = ("test_tutorials.py", "test_ray.py", "test_documentation.py", "test_kernels.py", "test_neural_tangents.py")
_NEURAL_TANGENTS = {"tests/cli/test_kernels.py", "tests/methods/scores/kernel/test_neural_tangents.py"}
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # where a test has two threads, each waits without a core


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    """60 vectors of 8 numbers in three classes, ids in no order."""
    rng = np.random.default_rng(3)
    labels = np.arange(60) % 3
    values = rng.normal(size=(60, 8)) + 2 * np.eye(8)[labels]
    ids = [f"s{i:03d}" for i in rng.permutation(60)]
    return write(
        tmp_path / "vectors.parquet",
        {"id": ids, "label": labels, "embedding": pa.FixedSizeListArray.from_arrays(values.astype(np.float32).ravel(), 8)},
    )


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """40 grey 8 x 8 pictures in two classes: bright above or bright below."""
    rng = np.random.default_rng(4)
    labels = np.arange(40) % 2
    images = rng.integers(0, 100, (40, 8, 8))
    images[labels == 0, :4] += 120
    images[labels == 1, 4:] += 120
    return write(
        tmp_path / "pictures.parquet",
        {"id": [f"p{i:02d}" for i in range(40)], "image": [png(i.astype(np.uint8)) for i in images], "label": labels},
    )


Prune = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def prune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Prune:
    """Run a command line in the test's folder: in this process, or in one of its own where the environment matters: a fork, or
    a fresh one where imports do."""
    from prune_cli.cli.app import invoke

    def within(arguments: list[str], stdin: bytes) -> subprocess.CompletedProcess[bytes]:
        out, err = io.BytesIO(), io.BytesIO()
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            patch.setattr(sys, "stdout", io.TextIOWrapper(out, write_through=True))
            patch.setattr(sys, "stderr", io.TextIOWrapper(err, write_through=True))
            code = invoke(arguments)
            return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())

    def run(
        *arguments: object, stdin: bytes = b"", check: int | None = 0, env: dict[str, str] | None = None, fresh: bool = False
    ) -> subprocess.CompletedProcess[bytes]:
        texts = [str(a) for a in arguments]
        if env is None:
            done = within(texts, stdin)
        else:
            command = [sys.executable if fresh else request.getfixturevalue("warm").python, "-m", "prune_cli", *texts]
            done = subprocess.run(command, cwd=tmp_path, input=stdin, capture_output=True, timeout=HANGS, env=env)
        if check is not None:
            assert done.returncode == check, f"exit code {done.returncode}\n{done.stdout!r}\n{done.stderr.decode()}"
        return done

    run.folder = tmp_path  # type: ignore[attr-defined]
    return run


def pytest_configure(config: pytest.Config) -> None:
    """Where several processes test, start what all of them run commands with; they are forks of it themselves."""
    if hasattr(config, "workerinput"):
        sys.executable = os.environ[_FRESH]
        del os.environ["WARM_PID"]
    elif config.getoption("numprocesses", None):
        commands = WarmCommands().__enter__()
        config.add_cleanup(lambda: commands.__exit__(None, None, None))
        os.environ |= {_WARM: str(commands.folder), _FRESH: sys.executable}
        config.option.tx = [f"popen//python={commands.python}" if tx == "popen" else tx for tx in config.option.tx]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand whole files to the processes, the long ones first, and those that import neural-tangents to the same one."""
    from xdist.scheduler import LoadFileScheduling

    class WholeFiles(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "neural-tangents" if file in _NEURAL_TANGENTS else file

    config.option.loadscopereorder = False
    return WholeFiles(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let what takes longest come first, so that no process has it left when the others are done."""
    items.sort(key=lambda item: _LONG.index(item.path.name) if item.path.name in _LONG else len(_LONG))


@pytest.fixture(scope="session")
def warm() -> Iterator[WarmCommands]:
    """Commands that start at once: ``prune`` and ``python`` for shell scripts, and for what a test stops and kills."""
    with WarmCommands(Path(os.environ[_WARM]) if _WARM in os.environ else None) as commands:
        yield commands


@pytest.fixture
def warm_workers(warm: WarmCommands, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that the code starts of this interpreter start at once."""
    monkeypatch.setattr(sys, "executable", warm.python)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the parts of a clone that the documentation reads, and photos of the reader's, noise in two classes."""
    root = Path(__file__).parent.parent
    for name in ("sample_data", "docs"):
        (tmp_path / name).symlink_to(root / name)
    rng = np.random.default_rng(0)
    for i in range(8):
        place = tmp_path / "photos" / f"class{i % 2}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i}.png").write_bytes(png(rng.integers(0, 255, (32, 32, 3)).astype(np.uint8)))
    return tmp_path


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Where an S3 server of this machine is: moto's."""
    server = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    import logging

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Point commands at an S3 server, whatever credentials the machine has."""

    def point(endpoint: str) -> None:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))

    return point


@pytest.fixture
def bucket(s3_server: str, aws: Callable[[str], None]) -> Any:
    """A bucket of moto's, empty: boto3's resource, whose objects are read and made beside the commands."""
    import uuid

    import boto3

    aws(s3_server)
    return boto3.resource("s3", endpoint_url=s3_server, region_name="us-east-1").create_bucket(Bucket=uuid.uuid4().hex)


@pytest.fixture
def small_store(aws: Callable[[str], None]) -> Iterator[SmallStore]:
    """A store that can be told to fail; its bucket is called ``bucket``."""
    with SmallStore() as store:
        aws(store.endpoint)
        yield store
