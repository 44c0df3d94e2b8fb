"""Scores that go by windows of passes: dynamic uncertainty, Dual, and the temporal dual-depth score."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from prune_cli.core.errors import InputError
from prune_cli.core.params import param
from prune_cli.methods.scores.record.needs import RecordNeeds, RecordParams, within
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


def sliding_windows(record: Record, method: str, column: str, epochs: int, window: int, first: int = 0) -> Iterator[FloatArray]:
    """Yield (J, N) float64, each run of J passes among the passes ``first`` to ``epochs``.

    Raises:
        InputError: fewer passes than a window.
    """
    if epochs - first < window:
        raise InputError(
            f"{method} needs {window + first} passes of training for a window of {window + first}, and there are {epochs}",
            f"train for more epochs (--epochs), or a shorter window: -p {method}.window={max(2 + first, epochs)}",
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


def mean_of_windows(record: Record, method: str, epochs: int, window: int, of: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """Return (N,) the mean over the windows of what ``of`` makes of each, (J, N) of the label's probability."""
    total_n, count = np.zeros(record.n_samples), 0
    for p_jn in sliding_windows(record, method, "p_label", epochs, window):
        total_n += of(p_jn)
        count += 1
    return total_n / count


@dataclass(frozen=True)
class DynUncParams(RecordParams):
    """Parameters of `dyn_unc_scores`."""

    window: int | None = param(None, "passes in a window; none: a third of the passes, 2 to 10", low=2)

    def needs(self, epochs: int) -> RecordNeeds:
        """Return all of a training."""
        return RecordNeeds("train", epochs)


def dyn_unc_scores(record: Record, params: DynUncParams = DynUncParams()) -> dict[str, FloatArray]:
    """Return the dynamic uncertainty: the mean, over sliding windows of passes, of the deviation of p_y.

    Args:
        record: needs ``p_label`` in training.
    Returns:
        ``dyn_unc`` (N,) float64, 0 to 1/2; higher is harder.
    Raises:
        InputError: fewer passes than a window.
    Cost:
        N T J, J arrays of N numbers.
    Source:
        He et al., CVPR 2024 workshops, arXiv:2306.05175: J = 10. The deviation is that of the window itself (divided
        by J); another divisor scales all scores alike.
    """
    window = window_size(record.n_epochs, params.window)
    return {"dyn_unc": mean_of_windows(record, "dyn_unc", record.n_epochs, window, lambda p_jn: p_jn.std(axis=0))}


DUAL_EPOCHS = 30
"""Passes that count where the training has them, as published."""


@dataclass(frozen=True)
class DualParams(RecordParams):
    """Parameters of `dual_scores`."""

    epochs: int | None = param(None, "passes that count, from the first; none: 30, or all there are", low=2)
    window: int | None = param(None, "passes in a window; none: a third of them, 2 to 10", low=2)
    terms: bool = param(False, "also return the mean probability of the label, which the selection dual draws by")

    def needs(self, epochs: int) -> RecordNeeds:
        """Return the first passes of a training."""
        return RecordNeeds("train", within("dual", "epochs", self.epochs or min(epochs, DUAL_EPOCHS), epochs))


def dual_scores(record: Record, params: DualParams = DualParams()) -> dict[str, FloatArray]:
    """Return difficulty times uncertainty: the mean over windows of ``std(p_y) (1 - mean(p_y))``, early in training.

    Args:
        record: needs ``p_label`` in training.
    Returns:
        ``dual`` (N,) float64, 0 to 1/2; higher is harder. With ``terms`` also ``dual_mean`` (N,) float64, 0 to 1, the mean
        over these epochs of the label's probability; higher is easier.
    Raises:
        InputError: fewer passes than asked for, or than a window.
    Cost:
        N T J, J arrays of N numbers.
    Source:
        Cho et al., ICML 2025, arXiv:2502.06905: T = 30, J = 10. The deviation is divided by J, which scales all alike.
    """
    epochs = first_epochs(record, params.epochs, DUAL_EPOCHS, "dual")
    window = window_size(epochs, params.window)

    def product(p_jn: FloatArray) -> FloatArray:
        return np.asarray(p_jn.std(axis=0) * (1.0 - p_jn.mean(axis=0)))

    found = {"dual": mean_of_windows(record, "dual", epochs, window, product)}
    if params.terms:
        mean_of_one = mean_of_windows(record, "dual", epochs, 1, lambda p_1n: np.asarray(p_1n[0]))
        found["dual_mean"] = mean_of_one
    return found


TDDS_EPOCHS = 90
"""Passes that count where the training has them, as published."""


@dataclass(frozen=True)
class TddsParams(RecordParams):
    """Parameters of `tdds_scores`."""

    epochs: int | None = param(None, "passes that count, from the first; none: 90, or all there are", low=3)
    window: int | None = param(None, "passes in a window; none: a third of them, 3 to 10", low=3)
    decay: float = param(0.9, "weight of the newest window, each older one 1 - decay times less", low=1e-6, high=1.0)

    def needs(self, epochs: int) -> RecordNeeds:
        """Return the first passes of a training, and how the probabilities moved between them."""
        wanted = within("tdds", "epochs", self.epochs or min(epochs, TDDS_EPOCHS), epochs)
        return RecordNeeds("train", wanted, prob_change=True)


def tdds_scores(record: Record, params: TddsParams = TddsParams()) -> dict[str, FloatArray]:
    r"""Return the temporal dual-depth score: how unevenly a sample's probabilities move while it is learned.

    With the change ``d_t = sum_c |p_{t+1} (log p_{t+1} - log p_t)|`` between two passes, each window of K passes has K - 1 changes and
    the norm ``R_t = sqrt(sum (d - mean d)^2)``, and the score is ``sum_t decay (1 - decay)^(last - t) R_t``.

    Args:
        record: needs ``prob_change`` in training.
    Returns:
        ``tdds`` (N,) float64, 0 or more; higher is harder.
    Raises:
        InputError: fewer passes than asked for, or than a window.
    Cost:
        N T K, K arrays of N numbers.
    Source:
        Zhang et al., CVPR 2024, arXiv:2311.13613. The published passes and windows depend on the share kept (90 and 10
        for one of them); the decay is recalled, not confirmed against the paper's text. Deviation: the authors also weight the samples
        they keep by the score while they train; here the score is all there is.
    """
    epochs = first_epochs(record, params.epochs, TDDS_EPOCHS, "tdds")
    window = max(3, window_size(epochs, params.window))
    score_n = np.zeros(record.n_samples)
    for changes_kn in sliding_windows(record, "tdds", "prob_change", epochs, window - 1, first=1):
        norm_n = np.sqrt(((changes_kn - changes_kn.mean(axis=0)) ** 2).sum(axis=0))
        score_n = (1.0 - params.decay) * score_n + params.decay * norm_n
    return {"tdds": score_n}
