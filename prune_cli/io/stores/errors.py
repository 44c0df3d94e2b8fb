"""What went wrong at an object store, in one line with its cure."""

from __future__ import annotations

import os
import re
from pathlib import Path

from prune_cli.core.errors import InputError

_DENIED = "access is denied"
_RENEW_S3 = "renew them: aws sso login, or set AWS_PROFILE, or a new AWS_SESSION_TOKEN"
_CHECK_S3 = "check AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; or aws sso login"
_LOGIN_GS = (
    "gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS; gs://anonymous@BUCKET for what is public"
)

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
}  # fmt: skip


def explained(error: BaseException, location: str, doing: str) -> InputError:
    """Return the error for a user: what could not be done with which location, why, and the cure.

    Args:
        error: of the store's library; what it says is searched for the store's own codes.
        location: as it was given.
        doing: ``read``, ``write``.
    """
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
    names = (
        "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    )  # fmt: skip
    files = {"AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials", "AWS_CONFIG_FILE": "~/.aws/config"}
    return any(os.environ.get(name) for name in names) or any(
        Path(os.environ.get(name, usual)).expanduser().is_file() for name, usual in files.items()
    )
