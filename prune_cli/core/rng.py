"""One seed, named streams: every random draw says what it is for, so that no draw depends on another."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def stream_seed(seed: int, *stream: str | int) -> int:
    """Return the 64-bit seed of one named stream, the same on every machine and in every process.

    Args:
        seed: the run's ``--seed``, 0 or more.
        stream: what the draw is for, from coarse to fine, as in ``("cg", "negatives", class_code, repeat)``.
    Returns:
        An integer in [0, 2^63), fit for numpy and torch generators.
    Source:
        First 8 bytes of SHA-256 over the seed and the names, separated so that ("a", "bc") and ("ab", "c") differ.
    """
    text = "\x1f".join([str(seed), *(f"{type(part).__name__}:{part}" for part in stream)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *stream: str | int) -> np.random.Generator:
    """Return a numpy generator (PCG64) of one named stream: see `stream_seed`."""
    import numpy as np

    return np.random.Generator(np.random.PCG64(stream_seed(seed, *stream)))
