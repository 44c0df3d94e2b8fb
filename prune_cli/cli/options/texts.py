"""Texts of the command line as the values they stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prune_cli.core.errors import InputError
from prune_cli.core.runtime import parse_size

if TYPE_CHECKING:
    from prune_cli.io.manifests.ledger import ErrorAllowance


def parse_image_size(text: str | None) -> tuple[int, int] | None:
    """Return (height, width) of ``32`` or ``32x48``.

    >>> parse_image_size("32"), parse_image_size("32x48"), parse_image_size(None)
    ((32, 32), (32, 48), None)
    """
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(p.isdigit() and int(p) > 0 for p in parts):
        raise InputError(f"--image-size {text!r} is not a size", "write 32, or height x width as 32x48")
    return int(parts[0]), int(parts[-1])


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """Return (I, N) of ``I/N``, I from 1 to N.

    >>> parse_shard("3/16"), parse_shard(None)
    ((3, 16), None)
    """
    if text is None:
        return None
    number, slash, of = text.partition("/")
    if not (slash and number.isascii() and number.isdigit() and of.isascii() and of.isdigit()) or not (1 <= int(number) <= int(of)):
        raise InputError(f"--shard {text!r} is not one of so many parts", "write 3/16 for the third of sixteen")
    return int(number), int(of)


def parse_numbers(text: str | None, option: str, kind: type[int] | type[float]) -> tuple[Any, ...]:
    """Return the numbers of a comma-separated list.

    >>> parse_numbers("0.1,0.3", "--fraction", float)
    (0.1, 0.3)
    """
    if text is None:
        return ()
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        wanted = "whole numbers" if kind is int else "numbers"
        raise InputError(
            f"{option} {text!r} is not a list of {wanted}", f"write {option} {'100,500' if kind is int else '0.1,0.3'}"
        ) from None


def parse_names(text: str | None, option: str = "--method") -> tuple[str, ...]:
    """Return the names of a comma-separated list, each once."""
    if text is None:
        return ()
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise InputError(f"{option} names nothing", "see --list-methods" if option == "--method" else "see --help")
    return names


def parse_limit(text: str | None) -> int | None:
    """Return the bytes of a size, None where none is given."""
    return None if text is None else parse_size(text)


def parse_allowance(text: str) -> ErrorAllowance:
    """Return how many bad rows ``5`` or ``1%`` allow."""
    from prune_cli.io.manifests.ledger import ErrorAllowance

    return ErrorAllowance.parse(text)
