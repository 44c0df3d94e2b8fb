"""From how many trainings on a selection has paid for itself."""

from __future__ import annotations

import math


def break_even_trainings(selecting: float, training: float, full: float) -> int | None:
    """Return the fewest trainings n for which selecting once and training on the selection costs no more than all the data.

    ``selecting + n training <= n full``, so ``n = ceil(selecting / (full - training))``, at least 1.

    Args:
        selecting: what scoring and selecting cost, once; 0 or more, in seconds or FLOPs.
        training: one training on the selection, in the same unit.
        full: one training on all the data.
    Returns:
        1 or more, or None where it never pays.
    Cost:
        1.
    Source:
        Arithmetic.
    Example:
        Selecting costs 100; a training 30 instead of 70: 40 are saved each time, so the third pays.

        >>> break_even_trainings(100, 30, 70), break_even_trainings(0, 30, 70), break_even_trainings(0, 70, 70)
        (3, 1, None)
    """
    saved = full - training
    if not saved > 0:
        return None
    return max(1, math.ceil(selecting / saved - 1e-12))
