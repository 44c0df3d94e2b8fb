"""Locations: texts that name a file, a folder or an object of a store, and what can be told of them without looking."""

from __future__ import annotations

import re
from pathlib import Path

from prune_cli.core.errors import InputError

STDIN = "-"
"""Standard input, or standard output."""

_REMOTE = re.compile(r"(s3|gs|hf)://")
_MANGLED = re.compile(r"(s3|gs|hf):/+")
"""As a path it has lost a slash."""


def is_remote(location: str | Path) -> bool:
    """Return whether a location is in an object store.

    >>> is_remote("s3://bucket/data.parquet"), is_remote("data.parquet"), is_remote("-")
    (True, False, False)
    """
    return isinstance(location, str) and _REMOTE.match(location) is not None


def split_options(location: str) -> tuple[str, str]:
    """Return a remote location without its options, and these with their question mark.

    >>> split_options("s3://bucket/a.parquet?region=eu-west-1")
    ('s3://bucket/a.parquet', '?region=eu-west-1')
    """
    place, mark, options = location.partition("?")
    return place, mark + options


def name_of(location: str | Path) -> str:
    """Return the name of what a location is, without its folder.

    >>> name_of("s3://bucket/folder/a.parquet?region=eu-west-1"), name_of("folder/a.parquet")
    ('a.parquet', 'a.parquet')
    """
    if is_remote(location):
        return split_options(str(location))[0].rstrip("/").rpartition("/")[2]
    return Path(location).name


def stem_of(location: str) -> str:
    """Return the name that default outputs are made from.

    >>> stem_of("s3://bucket/a.parquet"), stem_of("-")
    ('a', 'stdin')
    """
    if location == STDIN:
        return "stdin"
    name = name_of(location) if is_remote(location) else Path(location).resolve().name
    return name.removesuffix(".parquet")


def beside(location: str, ending: str) -> str:
    """Return the location of a file beside another: its name with ``.parquet`` replaced.

    >>> beside("s3://bucket/a.parquet?region=eu-west-1", ".errors.parquet"), beside("x/a.parquet", "-0.3.parquet")
    ('s3://bucket/a.errors.parquet?region=eu-west-1', 'x/a-0.3.parquet')
    """
    name = name_of(location).removesuffix(".parquet") + ending
    if not is_remote(location):
        return str(Path(location).with_name(name))
    place, options = split_options(location)
    return f"{place.rpartition('/')[0]}/{name}{options}"


def local_twin(location: str) -> Path:
    """Return the path itself, or for a remote location its name in the current folder: for what stays on this machine."""
    return Path(name_of(location)) if is_remote(location) else Path(location)


def require_local(location: str | Path, what: str) -> None:
    """Raise where something that must be on this machine is said to be in a store.

    Args:
        location: as it was given; a path that was made of a remote location is recognised too.
        what: what it is, for the message: ``--work-dir``, ``the run folder``.
    Raises:
        InputError: it is remote.
    """
    if _MANGLED.match(str(location)):
        raise InputError(
            f"{what} {location} is in an object store, and must be on this machine",
            "name a local path; what may be remote are manifests, scores, selections and other Parquet files",
        )


def work_folder(output: str) -> Path:
    """Return the folder on this machine for what is on its way to an output.

    >>> str(work_folder("x/a.parquet")), str(work_folder("s3://bucket/a.parquet"))
    ('x/a.parquet.work', 'a.parquet.work')
    """
    return Path(f"{local_twin(output)}.work")
