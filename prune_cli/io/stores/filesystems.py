"""Object stores as pyarrow's file systems, ``s3://bucket/key``, ``gs://``, ``hf://``; and what went wrong at one, with its cure."""

from __future__ import annotations

import datetime
import functools
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from prune_cli.core.errors import InputError, PruneError, UnavailableError
from prune_cli.io.stores.locations import split_options

_DENIED = "access is denied"
_RENEW_S3 = "renew them: aws sso login, or set AWS_PROFILE, or a new AWS_SESSION_TOKEN"
_CHECK_S3 = "check AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; or aws sso login"
_LOGIN_GS = "gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS; gs://anonymous@BUCKET for what is public"

_RULES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "s3": (
        (r"Expired_?Token|REQUEST_EXPIRED|RequestExpired|TokenRefreshRequired", "the credentials have expired", _RENEW_S3),
        (
            r"INVALID_ACCESS_KEY_ID|InvalidAccessKeyId|INVALID_CLIENT_TOKEN|InvalidToken|SIGNATURE_DOES_NOT_MATCH|"
            r"UNRECOGNIZED_CLIENT|INVALID_SIGNATURE",
            "the credentials are not valid there",
            _CHECK_S3,
        ),
        (r"REQUEST_TIME_TOO_SKEWED", "this machine's clock is wrong", "set the clock"),
        (
            r"NO_SUCH_BUCKET|NoSuchBucket|Bucket '[^']*' not found",
            "there is no such bucket",
            "check its name and the endpoint; buckets are never made",
        ),
        (
            r"PermanentRedirect|HTTP status 301|AuthorizationHeaderMalformed|IllegalLocationConstraint",
            "the bucket is in another region",
            "set AWS_REGION, or add ?region=NAME to the location",
        ),
        (
            r"ACCESS_DENIED|AccessDenied|HTTP status 40[13]|AllAccessDisabled",
            _DENIED,
            "check AWS_PROFILE and what it may do there (s3:GetObject, s3:ListBucket, to write s3:PutObject); or aws sso login",
        ),
        (
            r"NETWORK_CONNECTION|REQUEST_TIMEOUT|curlCode|Timeout",
            "the store cannot be reached",
            "check the network and the endpoint (AWS_ENDPOINT_URL, or ?endpoint_override=HOST:PORT&scheme=http)",
        ),
        (r"SLOW_DOWN|HTTP status 50|INTERNAL_FAILURE|SERVICE_UNAVAILABLE", "the store is busy", "try again later"),
    ),
    "gs": (
        (r"OAuth2 access token|UNAUTHENTICATED|Could not automatically determine", "there are no valid credentials", _LOGIN_GS),
        (r"PERMISSION_DENIED|does not have storage", _DENIED, f"ask for access, or use other credentials: {_LOGIN_GS}"),
        (
            r"specified bucket does not exist|bucket.*[Nn]ot [Ff]ound|NOT_FOUND",
            "there is no such bucket",
            "check its name; buckets are never made",
        ),
        (
            r"CURL error|UNAVAILABLE|DEADLINE_EXCEEDED|Retry policy exhausted",
            "the store cannot be reached",
            "check the network and the endpoint (?endpoint_override=HOST:PORT&scheme=http)",
        ),
    ),
    "hf": (
        (r"GatedRepo", "access to this data set must be asked for", "accept its terms on huggingface.co, and set HF_TOKEN"),
        (
            r"RepositoryNotFound|\b40[13]\b|Unauthorized|Forbidden",
            "there is no such data set, or it is private",
            "check its name; for a private one set HF_TOKEN, or huggingface-cli login",
        ),
        (r"RevisionNotFound", "there is no such revision", "check what follows @ in the location"),
        (
            r"Connect|Timeout|resolve|OfflineMode|LocalEntryNotFound|MaxRetry|offline",
            "the Hub cannot be reached",
            "check the network, HF_ENDPOINT and HF_HUB_OFFLINE",
        ),
    ),
}


def explained(error: BaseException, location: str, doing: str) -> PruneError:
    """Return the error for a user: what could not be done with which location, why, and the cure.

    Args:
        error: of the store's library; what it says is searched for the store's own codes. One for a user already comes back.
        doing: ``read``, ``write``.
    """
    if isinstance(error, PruneError):
        return error
    text = re.sub(r"\s+", " ", f"{type(error).__name__}: {error}")
    for pattern, found, cure in _RULES[location.partition(":")[0]]:
        if re.search(pattern, text):
            if found == _DENIED and location.startswith("s3:") and not _has_aws_credentials():
                found += ", and no credentials were found on this machine"
            return InputError(f"cannot {doing} {location}: {found}", cure)
    said = " ".join(str(error).split())[:300] or type(error).__name__
    return InputError(f"cannot {doing} {location}: {said}", "check the location, or try again")


def _has_aws_credentials() -> bool:
    """Return whether there is any place for credentials beside the machine's own role."""
    container = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
    names = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", *container)
    files = {"AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials", "AWS_CONFIG_FILE": "~/.aws/config"}
    return any(os.environ.get(name) for name in names) or any(
        Path(os.environ.get(name, usual)).expanduser().is_file() for name, usual in files.items()
    )


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
            raise InputError(f"{scheme}://...@{rest}: credentials in a location end up in logs", "leave them out, and set AWS_PROFILE")
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
        made = (_s3 if scheme == "s3" else _gcs)(bucket, tuple(sorted((name, value) for name, value in options.items() if value)))
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

    options: dict[str, Any] = dict(stated)
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
    options: dict[str, Any] = dict(stated)
    seconds = float(options.pop("retry_limit_seconds", _RETRY_SECONDS))
    return GcsFileSystem(anonymous=options.pop("anonymous", "") == "true", retry_time_limit=datetime.timedelta(seconds=seconds), **options)


def _hub(location: str) -> Any:
    """Return the Hub's files as pyarrow's file system: for reading, and by the ranges that are asked for alone."""
    try:
        from huggingface_hub import HfFileSystem
    except ImportError:
        raise UnavailableError(f"{location} is read by huggingface_hub, which is not installed", "pip install 'prune-cli[hub]'") from None
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
