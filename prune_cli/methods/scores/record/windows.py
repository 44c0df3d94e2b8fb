"""Passes of a training, from the first, in sliding windows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import numpy as np

from prune_cli.core.errors import InputError
from prune_cli.methods.scores.record.records import FloatArray, Record, require_training

WINDOW = 10
"""Passes in a window, where the training is long enough."""


def window_size(n_epochs: int, window: int | None) -> int:
    """Return the passes in a window: those asked for, or a third of all, 2 to `WINDOW`."""
    return max(2, min(WINDOW, n_epochs // 3)) if window is None else window


def first_epochs(record: Record, epochs: int | None, published: int, method: str) -> int:
    """Return the passes that count: those asked for, or those published, or all there are.

    Raises:
        InputError: the record has fewer.
    """
    wanted = min(record.n_epochs, published) if epochs is None else epochs
    require_training(record, method, max(wanted, 2))
    return wanted


def sliding_windows(
    record: Record, method: str, column: str, epochs: int, window: int, first: int = 0
) -> Iterator[FloatArray]:
    """Yield (J, N) float64, each run of J passes among the passes ``first`` to ``epochs``.

    Raises:
        InputError: fewer passes than a window.
    """
    if epochs - first < window:
        raise InputError(
            f"{method} needs {window + first} passes of training for a window of {window}, and there are {epochs}",
            f"train for more epochs (--epochs), or a shorter window: -p {method}.window={max(2, epochs - first)}",
        )
    held: deque[FloatArray] = deque(maxlen=window)
    for number, values in enumerate(record.training(column)):
        if number >= epochs:
            return
        if number < first:
            continue
        held.append(np.asarray(values, np.float64))
        if len(held) == window:
            yield np.stack(held)


def mean_of_windows(
    record: Record, method: str, epochs: int, window: int, of: Callable[[FloatArray], FloatArray]
) -> FloatArray:
    """Return (N,) the mean over the windows of what ``of`` makes of each, (J, N) of the label's probability."""
    total_n, count = np.zeros(record.n_samples), 0
    for p_jn in sliding_windows(record, method, "p_label", epochs, window):
        total_n += of(p_jn)
        count += 1
    return total_n / count
