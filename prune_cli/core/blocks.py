"""A block of work: what may be done anywhere, in any order, and is the same wherever it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Arrays: TypeAlias = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Block:
    """One unit of work, for a function of ours that is named by its import path, ``module:name``, and depends on nothing else.

    Args:
        name: unique within the run; what its result is kept under.
        values: JSON values.
        gather: returns its arrays; called when the block is handed out, so that those of all blocks are never held at once.
        nbytes: memory it takes at most, its arrays included; 0 where that is not known.
        flops: about how much there is to compute.
    """

    name: str
    values: Mapping[str, Any]
    gather: Callable[[], Arrays]
    nbytes: int = 0
    flops: float = 0.0


MapBlocks: TypeAlias = Callable[[str, Sequence[Block]], list[dict[str, np.ndarray]]]
"""Calls a function on the values and arrays of every block: the answers in the order of the blocks, the caller's to take apart."""
