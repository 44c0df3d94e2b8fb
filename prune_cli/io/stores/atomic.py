"""Files, objects and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from prune_cli.core.errors import InputError
from prune_cli.io.stores.locations import STDIN, is_remote
from prune_cli.io.stores.uploads import check_stored_output, stored_output


def check_output(output: str | Path, force: bool) -> None:
    """Raise before any work is done when the output cannot be written; standard output always can.

    Raises:
        InputError: it exists and ``force`` is not given, it is a folder where a file is wanted, or its folder is missing
            or not writable; of an object see `check_stored_output`.
    """
    if output == STDIN:
        return
    if is_remote(output):
        check_stored_output(str(output), force)
        return
    path = Path(output)
    if path.is_dir():
        raise InputError(f"output {path} is a folder", "name a file with -o")
    if os.path.lexists(path) and not force:
        raise InputError(f"output {path} exists already", "pass --force to replace it, or name another with -o")
    if not path.parent.is_dir():
        raise InputError(f"the folder of output {path} does not exist", f"make it: mkdir -p {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"the folder of output {path} is not writable", "name another with -o")


@contextlib.contextmanager
def atomic_file(output: str | Path) -> Iterator[BinaryIO]:
    """Yield a binary file that becomes ``output`` when the block ends well, and vanishes when it does not.

    The temporary file stands in the same folder, is flushed and fsynced, then renamed, and the folder is fsynced: a
    kill at any moment leaves the old file or the new one. What a killed run left behind is removed by the next. For an
    object of a store see `stored_output`.

    Raises:
        InputError: the disk is full or the file cannot be written.
    """
    if is_remote(output):
        with stored_output(str(output)) as file:
            yield file
        return
    path = Path(output)
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{_host()}.{os.getpid()}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(
            f"cannot write {path}: {error.strerror or error}", "free disk space or name another place with -o"
        ) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def atomic_folder(final: Path, marker: str, force: bool) -> Iterator[Path]:
    """Yield a folder that becomes ``final`` when the block ends well, and vanishes when it does not.

    Args:
        final: the folder to make.
        marker: name of a file that tells a folder of ours: one without it is never replaced.
        force: replace a finished one.
    Raises:
        InputError: it exists and may not be replaced, its folder is missing, or it cannot be written.
    """
    if final.exists() and not force:
        raise InputError(f"output {final} exists already", "pass --force to replace it, or name another with -o")
    if final.exists() and not (final / marker).is_file():
        raise InputError(f"{final} is no export (it has no {marker}), and is not replaced", "name another with -o")
    if not final.parent.is_dir():
        raise InputError(f"the folder of output {final} does not exist", f"make it: mkdir -p {final.parent}")
    building = final.with_name(f"{final.name}.incomplete")
    shutil.rmtree(building, ignore_errors=True)
    try:
        building.mkdir()
        yield building
        publish_folder(building, final)
    except OSError as error:
        raise InputError(f"cannot write {final}: {error.strerror or error}", "free disk space") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def publish_file(building: Path, final: Path) -> None:
    """Rename a finished file into place, fsynced, replacing an older one of that name."""
    with building.open("rb") as handle:
        os.fsync(handle.fileno())
    building.replace(final)
    _sync_folder(final.parent)


def publish_folder(building: Path, final: Path) -> None:
    """Rename a finished folder into place, replacing an older one of that name.

    Every file in it is fsynced first. Where ``final`` exists, it is set aside until the new one stands.
    """
    for file in building.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
    old = final.with_name(f".{final.name}.{os.getpid()}.old")
    if final.exists():
        final.rename(old)
    building.rename(final)
    _sync_folder(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def _remove_leftovers(path: Path) -> None:
    pattern = re.compile(re.escape(f".{path.name}.{_host()}.") + r"(\d+)\.tmp")
    for entry in path.parent.iterdir() if path.parent.is_dir() else ():
        match = pattern.fullmatch(entry.name)
        if match and not Path(f"/proc/{match[1]}").exists() and Path("/proc/self").exists():
            entry.unlink(missing_ok=True)


def _host() -> str:
    """Return the name of this machine, as part of a file's: others may work in the same folder, and their processes are not ours."""
    return re.sub(r"[^A-Za-z0-9-]", "-", platform.node())[:40] or "here"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
