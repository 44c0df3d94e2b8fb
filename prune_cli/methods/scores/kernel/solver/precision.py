"""What ``--precision`` means to a kernel: the numbers it is factored in.

This module imports torch inside functions only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_cli.core.errors import InputError

if TYPE_CHECKING:
    import torch


def item_size(precision: str) -> int:
    """Return the bytes of a number in that precision.

    Raises:
        InputError: no precision that a kernel is factored in.
    """
    sizes = {"auto": 8, "float64": 8, "float32": 4}
    if precision not in sizes:
        raise InputError(f"--precision {precision!r} is not for a kernel", f"use {', '.join(sizes)}")
    return sizes[precision]


def torch_dtype(precision: str) -> torch.dtype:
    """Return the dtype that a kernel is factored in."""
    import torch

    return torch.float64 if item_size(precision) == 8 else torch.float32


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of a dtype."""
    return str(dtype).removeprefix("torch.")
