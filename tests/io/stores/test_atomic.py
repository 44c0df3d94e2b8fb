import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from prune_cli.core.errors import InputError
from prune_cli.io.stores import atomic
from prune_cli.io.stores.atomic import atomic_file, check_output, publish_folder


def test_a_file_appears_with_all_its_bytes_and_nothing_else(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "a") as file:
        file.write(b"new")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(error), atomic_file(tmp_path / "a") as file:
        file.write(b"half")
        raise error
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_kill_9_while_writing_leaves_the_old_file_and_the_next_run_clears_up(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    program = (
        "import os, signal, pathlib\n"
        "from prune_cli.io.stores.atomic import atomic_file\n"
        f"with atomic_file(pathlib.Path({str(tmp_path / 'a')!r})) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == -signal.SIGKILL
    assert (tmp_path / "a").read_bytes() == b"old"
    assert len(os.listdir(tmp_path)) == 2
    with atomic_file(tmp_path / "a") as file:
        file.write(b"new")
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"new"


def test_what_another_machine_writes_in_the_same_folder_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as there:
        there.setattr(atomic.platform, "node", lambda: "other.example")
        theirs = tmp_path / f".a.{atomic._host()}.999999999.tmp"
    theirs.write_bytes(b"half")
    with atomic_file(tmp_path / "a") as file:
        file.write(b"ours")
    assert sorted(os.listdir(tmp_path)) == [theirs.name, "a"] and theirs.name == ".a.other-example.999999999.tmp"


def test_a_full_disk_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    program = (
        "import resource, signal, pathlib\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from prune_cli.io.stores.atomic import atomic_file\n"
        f"with atomic_file(pathlib.Path({str(tmp_path / 'a')!r})) as file:\n"
        "    file.write(bytes(100_000))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "InputError: cannot write" in done.stderr
    assert os.listdir(tmp_path) == []


def test_outputs_are_checked_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"")
    check_output(tmp_path / "new", force=False)
    check_output(tmp_path / "there", force=True)
    for path, message in [(tmp_path / "there", "exists already"), (tmp_path, "is a folder"), (tmp_path / "no" / "a", "does not exist")]:
        with pytest.raises(InputError, match=message):
            check_output(path, force=False)


def test_a_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    for name, content in (("final", b"old"), ("building", b"new")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_bytes(content)
    (tmp_path / "final" / "more").write_bytes(b"old")
    publish_folder(tmp_path / "building", tmp_path / "final")
    assert os.listdir(tmp_path) == ["final"]
    assert os.listdir(tmp_path / "final") == ["f"]
    assert (tmp_path / "final" / "f").read_bytes() == b"new"
