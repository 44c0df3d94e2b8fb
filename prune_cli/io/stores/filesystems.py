"""Object stores as pyarrow's file systems: ``s3://bucket/key``, ``gs://bucket/key``, ``hf://datasets/owner/name/path``."""

from __future__ import annotations

import datetime
import functools
import os
from typing import Any
from urllib.parse import parse_qsl

from prune_cli.core.errors import InputError, UnavailableError
from prune_cli.io.stores.errors import explained
from prune_cli.io.stores.locations import split_options

_S3_OPTIONS = ("region", "scheme", "endpoint_override", "tls_ca_file_path", "force_virtual_addressing", "anonymous")
_GS_OPTIONS = ("scheme", "endpoint_override", "retry_limit_seconds", "project_id")
_ATTEMPTS, _CONNECT_SECONDS, _RETRY_SECONDS = 3, 5.0, 15.0
"""A store that does not answer is given up after some seconds, not minutes."""


def open_filesystem(location: str) -> tuple[Any, str]:
    """Return the file system that a remote location is in, and the path in it. Of S3 and GCS nothing is contacted yet, but
    where no region is told AWS is asked for the bucket's.

    Options follow the location as in pyarrow's URIs: ``?endpoint_override=localhost:9000&scheme=http``. Of the environment
    ``AWS_ENDPOINT_URL_S3``, ``AWS_ENDPOINT_URL``, ``AWS_REGION`` and ``AWS_DEFAULT_REGION`` are heeded here; credentials are
    found by the libraries themselves, in the environment, profile files and the machine's role.

    Raises:
        InputError: no bucket or no path, an unknown option, credentials in the location, or no such bucket.
        UnavailableError: a missing package.
    """
    place, query = split_options(location)
    scheme, _, path = place.partition("://")
    path = path.rstrip("/")
    options = dict(parse_qsl(query.removeprefix("?"), keep_blank_values=True))
    if query and not options:
        raise InputError(f"{location}: '{query}' is no option", "write ?name=value, or leave it out")
    if scheme == "hf":
        if path.count("/") < 2 or not path.startswith("datasets/") or options:
            raise InputError(f"{location} names no data set", "write hf://datasets/OWNER/NAME/FILE.parquet")
        return _hub(location), path
    user, at, rest = path.partition("@")
    if at and "/" not in user:
        if scheme != "gs" or user != "anonymous":
            raise InputError(
                f"{scheme}://...@{rest}: credentials in a location end up in logs",
                "leave them out, and set AWS_PROFILE",
            )
        path = rest
        options["anonymous"] = "true"
    bucket = path.partition("/")[0]
    if not bucket:
        raise InputError(f"{location} names no bucket", f"write {scheme}://BUCKET/FILE.parquet")
    known = _S3_OPTIONS if scheme == "s3" else _GS_OPTIONS
    unknown = sorted(options.keys() - {*known, "anonymous"})
    if unknown:
        raise InputError(f"{location}: unknown option '{unknown[0]}'", f"use some of: {', '.join(known)}")
    if scheme == "s3":
        options.setdefault("endpoint_override", _variable("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))
        options.setdefault("region", _variable("AWS_REGION", "AWS_DEFAULT_REGION"))
    try:
        made = (_s3 if scheme == "s3" else _gcs)(bucket, tuple(sorted(options.items())))
    except OSError as error:
        raise explained(error, location, "open") from error
    except ValueError as error:
        raise InputError(f"{location}: {error}", "correct its options") from error
    return made, path


def _variable(*names: str) -> str:
    return next((value for name in names if (value := os.environ.get(name))), "")


@functools.lru_cache(maxsize=32)
def _s3(bucket: str, stated: tuple[tuple[str, str], ...]) -> Any:
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem, resolve_s3_region

    options: dict[str, Any] = {name: value for name, value in stated if value}
    endpoint = options.pop("endpoint_override", None)
    if endpoint is not None:
        scheme, found, host = endpoint.partition("://")
        options["endpoint_override"] = (host if found else endpoint).rstrip("/")
        if found:
            options["scheme"] = scheme
    if "region" not in options:
        options["region"] = "us-east-1" if endpoint is not None else resolve_s3_region(bucket)
    for name in ("force_virtual_addressing", "anonymous"):
        if name in options:
            options[name] = options[name].lower() == "true"
    return S3FileSystem(
        connect_timeout=_CONNECT_SECONDS,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        background_writes=True,
        **options,
    )


@functools.lru_cache(maxsize=32)
def _gcs(bucket: str, stated: tuple[tuple[str, str], ...]) -> Any:
    try:
        from pyarrow.fs import GcsFileSystem
    except ImportError:
        raise UnavailableError("this pyarrow knows no gs://", "pip install pyarrow (its wheels for Linux do)") from None
    options: dict[str, Any] = {name: value for name, value in stated if value}
    seconds = float(options.pop("retry_limit_seconds", _RETRY_SECONDS))
    return GcsFileSystem(
        anonymous=options.pop("anonymous", "") == "true",
        retry_time_limit=datetime.timedelta(seconds=seconds),
        **options,
    )


def _hub(location: str) -> Any:
    """Return the Hub's files as pyarrow's file system: for reading, and by the ranges that are asked for alone."""
    try:
        from huggingface_hub import HfFileSystem
    except ImportError:
        raise UnavailableError(
            f"{location} is read by huggingface_hub, which is not installed", "pip install 'prune-cli[hub]'"
        ) from None
    return _hub_files(HfFileSystem)


@functools.lru_cache(maxsize=1)
def _hub_files(kind: Any) -> Any:
    import pyarrow as pa
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    class Ranges(FSSpecHandler):  # type: ignore[misc]
        def open_input_file(self, path: str) -> Any:
            return pa.PythonFile(self.fs.open(path, mode="rb", cache_type="none"), mode="r")

    return PyFileSystem(Ranges(kind()))


def known_sha256(filesystem: Any, path: str) -> str | None:
    """Return the SHA-256 of a file's bytes where the store tells it: the Hub does of its large files, which are named by it."""
    handler = getattr(filesystem, "handler", None)
    if handler is None:
        return None
    lfs = handler.fs.info(path).get("lfs")
    found = lfs["sha256"] if isinstance(lfs, dict) else getattr(lfs, "sha256", None)
    return found if isinstance(found, str) and len(found) == 64 else None
