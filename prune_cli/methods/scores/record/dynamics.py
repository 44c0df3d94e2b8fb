"""Difficulty from one record: what a training run, or one model, said of every sample.

Every score here is a pure function of a `Record`. Training writes one, a file holds one, and the probabilities of any
model make a small one; which it was, a score neither knows nor cares.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.errors import InputError
from prune_cli.core.measures import CURES, GRADIENT_NORM, MEASURES
from prune_cli.core.params import param

FloatArray: TypeAlias = NDArray[np.float64]

EPOCHS_DUAL, EPOCHS_TDDS, WINDOW = 30, 90, 10


class Record(Protocol):
    """What one run kept of N samples: T passes of training, and some looks in eval mode."""

    @property
    def n_samples(self) -> int:
        """Return N."""

    @property
    def n_epochs(self) -> int:
        """Return T, the passes recorded in training; 0 where there was none."""

    @property
    def eval_epochs(self) -> tuple[int, ...]:
        """Return the passes after which un-augmented samples were looked at, ascending."""

    def training(self, column: str) -> Iterator[NDArray[Any]]:
        """Yield one column of each pass, (N,), from the first."""

    def evaluated(self, epoch: int, column: str) -> NDArray[Any]:
        """Return one column of the look after a pass, (N,)."""


@dataclass(frozen=True)
class ArrayRecord:
    """A record in memory.

    Args:
        train: column -> (T, N).
        evaluations: pass -> column -> (N,).
    """

    train: Mapping[str, NDArray[Any]]
    evaluations: Mapping[int, Mapping[str, NDArray[Any]]]

    @property
    def n_samples(self) -> int:
        """Return N."""
        for columns in (*self.evaluations.values(), self.train):
            for array in columns.values():
                return int(array.shape[-1])
        return 0

    @property
    def n_epochs(self) -> int:
        """Return T."""
        return max((len(array) for array in self.train.values()), default=0)

    @property
    def eval_epochs(self) -> tuple[int, ...]:
        """Return the passes looked at."""
        return tuple(sorted(self.evaluations))

    def training(self, column: str) -> Iterator[NDArray[Any]]:
        """Yield one column of each pass."""
        if column not in self.train:
            raise _lacks(column, "train")
        return iter(self.train[column])

    def evaluated(self, epoch: int, column: str) -> NDArray[Any]:
        """Return one column of the look after a pass."""
        if column not in self.evaluations[epoch]:
            raise _lacks(column, "eval")
        return self.evaluations[epoch][column]


def record_of_probabilities(probs_nc: NDArray[Any], codes_n: NDArray[np.int64]) -> ArrayRecord:
    """Return the record of one look of one model, from its probabilities.

    Args:
        probs_nc: (N, C) float, 0 to 1, rows that sum to 1; a probability of 0 for the label counts as the smallest
            normal float32, so that its loss is 87.3 nats and not infinite.
        codes_n: (N,) int64, 0 to C - 1.
    Returns:
        A record of no training and of one look, after pass 0, in float64.
    """
    tiny = float(np.finfo(np.float32).tiny)
    return record_of_logits(np.log(np.maximum(probs_nc, tiny, dtype=np.float64)), codes_n)


def record_of_logits(
    logits_nc: NDArray[Any], codes_n: NDArray[np.int64], gradient_norms_n: NDArray[Any] | None = None
) -> ArrayRecord:
    """Return the record of one look of one model, from its logits.

    Args:
        logits_nc: (N, C) float.
        codes_n: (N,) int64, 0 to C - 1.
        gradient_norms_n: (N,) float, see `prune_cli.methods.scores.record.grand`.
    Returns:
        A record of no training and of one look, after pass 0, in float64.
    """
    import torch

    from prune_cli.methods.training.loop.recording import measure

    columns = np.empty((len(MEASURES), len(codes_n)))
    for start in range(0, len(codes_n), 65_536):
        part = slice(start, start + 65_536)
        logits = torch.from_numpy(logits_nc[part].astype(np.float64))
        columns[:, part] = measure(logits, torch.from_numpy(np.ascontiguousarray(codes_n[part]))).numpy()
    look = dict(zip(MEASURES, columns, strict=True))
    return ArrayRecord({}, {0: look if gradient_norms_n is None else {**look, GRADIENT_NORM: gradient_norms_n}})


def early_epoch(n_epochs: int) -> int:
    """Return the pass that el2n and grand look at where nothing else is said: a tenth of the training, 20 of 200.

    >>> early_epoch(200), early_epoch(20), early_epoch(3)
    (20, 2, 1)
    """
    return max(1, round(n_epochs / 10))


@dataclass(frozen=True)
class TrainingParams:
    """Parameters of the training that the scores of a record share; how it trains is the recipe's."""

    epochs: int = param(200, "passes of the training (--epochs), as published; --preset fast is 20", low=1)
    runs: int = param(1, "trainings with seeds of their own, whose scores are averaged", low=1)
    augment: Literal["none", "strong"] = param(
        "none", "what the features are taken of: pictures as they are, or augmented"
    )


@dataclass(frozen=True)
class El2nParams:
    """Parameters of `el2n_scores`."""

    epoch: int | None = param(None, "pass after which it is taken; none: a tenth of the epochs (20 of 200)", low=1)


def el2n_scores(record: Record, params: El2nParams = El2nParams()) -> dict[str, FloatArray]:
    """Return the norm of the error, ``|softmax(z) - onehot(y)|_2``, early in training.

    Args:
        record: needs ``error_norm`` in eval mode after ``params.epoch``; the record of one model has one look only,
            which is taken.
        params: see `El2nParams`.
    Returns:
        ``el2n`` (N,) float64, 0 to sqrt(2); higher is harder.
    Raises:
        InputError: the record has no look after that pass.
    Cost:
        N.
    Source:
        Paul, Ganguli, Dziugaite, NeurIPS 2021, arXiv:2107.07075: epoch 20 of 200, mean over ten runs (``-p runs=10``).
    """
    return {"el2n": _float64(record.evaluated(_early(record, params.epoch, "el2n"), "error_norm"))}


@dataclass(frozen=True)
class GrandParams:
    """Parameters of `grand_scores`."""

    epoch: int | None = param(None, "pass after which it is taken; none: a tenth of the epochs (20 of 200)", low=1)
    variant: Literal["full", "last_layer"] = param("full", "over all parameters, or the last layer in closed form")


def grand_scores(record: Record, params: GrandParams = GrandParams()) -> dict[str, FloatArray]:
    """Return the norm of the gradient of each sample's loss, early in training.

    Args:
        record: needs ``gradient_norm`` in eval mode after ``params.epoch``; see `prune_cli.methods.scores.record.grand`.
        params: see `GrandParams`; ``variant`` says what was recorded.
    Returns:
        ``grand`` (N,) float64, 0 or more; higher is harder.
    Raises:
        InputError: the record has no gradient norms after that pass.
    Cost:
        N; the norms themselves cost three forward passes a sample, as B single ones.
    Source:
        Paul, Ganguli, Dziugaite, NeurIPS 2021, arXiv:2107.07075. Deviation: in eval mode, as the norm of a single
        sample, where the expectation over runs is ``-p runs=R``.
    """
    return {"grand": _float64(record.evaluated(_early(record, params.epoch, "grand"), "gradient_norm"))}


@dataclass(frozen=True)
class ForgettingParams:
    """Parameters of `forgetting_scores`: none."""


def forgetting_scores(record: Record, params: ForgettingParams = ForgettingParams()) -> dict[str, FloatArray]:
    """Return how often each sample was right when presented and wrong the next time.

    A sample that was never right counts as the number of passes, T, which is more than any other can reach.

    Args:
        record: needs ``correct`` in training.
        params: none.
    Returns:
        ``forgetting`` (N,) float64, whole numbers from 0 to T; higher is harder. Many are equal.
    Raises:
        InputError: the record has no training.
    Cost:
        N T.
    Source:
        Toneva et al., ICLR 2019, arXiv:1812.05159.
    Example:
        Right, wrong, right, wrong: forgotten twice. Never right in four passes: 4.

        >>> record = ArrayRecord({"correct": np.array([[1, 0], [0, 0], [1, 0], [0, 0]])}, {})
        >>> forgetting_scores(record)["forgetting"].tolist()
        [2.0, 4.0]
    """
    _require_training(record, "forgetting", 2)
    forgotten_n = np.zeros(record.n_samples)
    before_n = np.zeros(record.n_samples, bool)
    learned_n = before_n.copy()
    for correct in record.training("correct"):
        correct_n = np.asarray(correct) > 0.5
        forgotten_n += before_n & ~correct_n
        learned_n |= correct_n
        before_n = correct_n
    forgotten_n[~learned_n] = record.n_epochs
    return {"forgetting": forgotten_n}


@dataclass(frozen=True)
class AumParams:
    """Parameters of `aum_scores`: none."""


def aum_scores(record: Record, params: AumParams = AumParams()) -> dict[str, FloatArray]:
    """Return the area under the margin: the mean over the passes of ``z_y - max_{j != y} z_j``, of logits.

    Args:
        record: needs ``margin_logit`` in training.
        params: none.
    Returns:
        ``aum`` (N,) float64, any sign; higher is easier.
    Raises:
        InputError: the record has no training.
    Cost:
        N T.
    Source:
        Pleiss et al., NeurIPS 2020, arXiv:2001.10528. The mean, not the sum.
    """
    _require_training(record, "aum", 1)
    total_n = np.zeros(record.n_samples)
    for margin_n in record.training("margin_logit"):
        total_n += margin_n
    return {"aum": total_n / record.n_epochs}


@dataclass(frozen=True)
class DynUncParams:
    """Parameters of `dyn_unc_scores`."""

    window: int | None = param(None, "passes in a window; none: a third of the passes, 2 to 10", low=2)


def dyn_unc_scores(record: Record, params: DynUncParams = DynUncParams()) -> dict[str, FloatArray]:
    """Return the dynamic uncertainty: the mean, over sliding windows of passes, of the deviation of p_y.

    Args:
        record: needs ``p_label`` in training.
        params: see `DynUncParams`.
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
    window = _window(record.n_epochs, params.window)
    return {"dyn_unc": _mean_of_windows(record, "dyn_unc", record.n_epochs, window, lambda p_jn: p_jn.std(axis=0))}


@dataclass(frozen=True)
class DualParams:
    """Parameters of `dual_scores`."""

    epochs: int | None = param(None, "passes that count, from the first; none: 30, or all there are", low=2)
    window: int | None = param(None, "passes in a window; none: a third of them, 2 to 10", low=2)
    terms: bool = param(False, "also return the mean probability of the label, which the selection dual draws by")


def dual_scores(record: Record, params: DualParams = DualParams()) -> dict[str, FloatArray]:
    """Return difficulty times uncertainty: the mean over windows of ``std(p_y) (1 - mean(p_y))``, early in training.

    Args:
        record: needs ``p_label`` in training.
        params: see `DualParams`.
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
    epochs = _first_epochs(record, params.epochs, EPOCHS_DUAL, "dual")
    window = _window(epochs, params.window)

    def product(p_jn: FloatArray) -> FloatArray:
        return np.asarray(p_jn.std(axis=0) * (1.0 - p_jn.mean(axis=0)))

    found = {"dual": _mean_of_windows(record, "dual", epochs, window, product)}
    if params.terms:
        mean_of_one = _mean_of_windows(record, "dual", epochs, 1, lambda p_1n: np.asarray(p_1n[0]))
        found["dual_mean"] = mean_of_one
    return found


@dataclass(frozen=True)
class TddsParams:
    """Parameters of `tdds_scores`."""

    epochs: int | None = param(None, "passes that count, from the first; none: 90, or all there are", low=3)
    window: int | None = param(None, "changes in a window; none: a third of the passes, 2 to 10", low=2)
    decay: float = param(0.9, "weight of the newest window, each older one 1 - decay times less", low=1e-6, high=1.0)


def tdds_scores(record: Record, params: TddsParams = TddsParams()) -> dict[str, FloatArray]:
    r"""Return the temporal dual-depth score: how unevenly a sample's probabilities move while it is learned.

    With the change ``d_t = sum_c |p_{t+1} (log p_{t+1} - log p_t)|`` between two passes, each window of K changes has
    the norm ``R_t = sqrt(sum (d - mean d)^2)``, and the score is ``sum_t decay (1 - decay)^(last - t) R_t``.

    Args:
        record: needs ``prob_change`` in training.
        params: see `TddsParams`.
    Returns:
        ``tdds`` (N,) float64, 0 or more; higher is harder.
    Raises:
        InputError: fewer passes than asked for, or than a window and one.
    Cost:
        N T K, K arrays of N numbers.
    Source:
        Zhang et al., CVPR 2024, arXiv:2311.13613. The published passes and windows depend on the share kept (90 and 10
        for one of them); the decay is recalled, not confirmed against the paper's text.
    """
    epochs = _first_epochs(record, params.epochs, EPOCHS_TDDS, "tdds")
    window = _window(epochs, params.window)
    score_n = np.zeros(record.n_samples)
    for changes_kn in _windows(record, "tdds", "prob_change", epochs, window, first=1):
        norm_n = np.sqrt(((changes_kn - changes_kn.mean(axis=0)) ** 2).sum(axis=0))
        score_n = (1.0 - params.decay) * score_n + params.decay * norm_n
    return {"tdds": score_n}


@dataclass(frozen=True)
class LossParams:
    """Parameters of `loss_scores`: none."""


def loss_scores(record: Record, params: LossParams = LossParams()) -> dict[str, FloatArray]:
    """Return the cross-entropy of the given label, ``-log p_y`` in nats, by the network as it was last looked at.

    Args:
        record: needs ``loss`` in eval mode.
        params: none.
    Returns:
        ``loss`` (N,) float64, 0 or more; higher is harder.
    Raises:
        InputError: the record has no look in eval mode.
    Cost:
        N.
    Source:
        The usual small-loss criterion (Han 2018, arXiv:1804.06872).
    """
    return {"loss": _last(record, "loss", "loss")}


@dataclass(frozen=True)
class MarginParams:
    """Parameters of `margin_scores`."""

    of: Literal["label", "top"] = param("label", "label: p_y less the best other; top: the highest less the second")


def margin_scores(record: Record, params: MarginParams = MarginParams()) -> dict[str, FloatArray]:
    """Return the margin of the probabilities, by the network as it was last looked at.

    Args:
        record: needs ``margin_prob`` (or ``top_gap``) in eval mode.
        params: see `MarginParams`.
    Returns:
        ``margin`` (N,) float64, -1 to 1, with ``of=top`` 0 to 1; higher is easier.
    Raises:
        InputError: the record has no look in eval mode.
    Cost:
        N.
    Source:
        Scheffer 2001 for ``of=top``; Northcutt 2021 (arXiv:1911.00068) for the label's.
    """
    return {"margin": _last(record, "margin_prob" if params.of == "label" else "top_gap", "margin")}


@dataclass(frozen=True)
class EntropyParams:
    """Parameters of `entropy_scores`: none."""


def entropy_scores(record: Record, params: EntropyParams = EntropyParams()) -> dict[str, FloatArray]:
    """Return the entropy of the probabilities in nats, by the network as it was last looked at.

    Args:
        record: needs ``entropy`` in eval mode.
        params: none.
    Returns:
        ``entropy`` (N,) float64, 0 to log C; higher is harder.
    Raises:
        InputError: the record has no look in eval mode.
    Cost:
        N.
    Source:
        Shannon 1948; as a score of samples, Settles 2009.
    """
    return {"entropy": _last(record, "entropy", "entropy")}


@dataclass(frozen=True)
class ConfidenceParams:
    """Parameters of `confidence_scores`."""

    of: Literal["top", "label"] = param("top", "top: the highest probability; label: that of the given label")


def confidence_scores(record: Record, params: ConfidenceParams = ConfidenceParams()) -> dict[str, FloatArray]:
    """Return the confidence, by the network as it was last looked at.

    Args:
        record: needs ``confidence`` (or ``p_label``) in eval mode.
        params: see `ConfidenceParams`.
    Returns:
        ``confidence`` (N,) float64, 0 to 1; higher is easier.
    Raises:
        InputError: the record has no look in eval mode.
    Cost:
        N.
    Source:
        The highest probability, as in Hendrycks 2017 (arXiv:1610.02136) and Park 2023 (arXiv:2311.01002).
    """
    return {"confidence": _last(record, "confidence" if params.of == "top" else "p_label", "confidence")}


EpochsNeeded: TypeAlias = tuple[int, tuple[int, ...], bool]


def epochs_needed(method: str, params: Any, n_epochs: int) -> EpochsNeeded:
    """Return what a score needs of a training of T passes: passes, looks after which, and whether one at the very end.

    >>> epochs_needed("el2n", El2nParams(), 200), epochs_needed("aum", AumParams(), 200)
    ((20, (20,), False), (200, (), False))
    >>> epochs_needed("loss", LossParams(), 200)
    (200, (), True)

    Raises:
        InputError: more passes than there are.
    """
    if method in {"el2n", "grand"}:
        epoch = params.epoch or early_epoch(n_epochs)
        if epoch > n_epochs:
            raise InputError(f"{method}: epoch={epoch} of a training of {n_epochs}", "train for more epochs (--epochs)")
        return epoch, (epoch,), False
    if method in {"dual", "tdds"}:
        wanted = params.epochs or min(n_epochs, EPOCHS_DUAL if method == "dual" else EPOCHS_TDDS)
        if wanted > n_epochs:
            raise InputError(
                f"{method}: epochs={wanted} of a training of {n_epochs}", "train for more epochs (--epochs)"
            )
        return wanted, (), False
    return n_epochs, (), method in {"loss", "margin", "entropy", "confidence"}


def _float64(values: NDArray[Any]) -> FloatArray:
    return np.asarray(values, dtype=np.float64)


def _lacks(column: str, mode: str) -> InputError:
    return InputError(
        f"the record has no '{column}' in {mode} mode",
        CURES.get(column, "make the record with prune score --save-dynamics"),
    )


def _require_training(record: Record, method: str, epochs: int) -> None:
    if record.n_epochs < epochs:
        raise InputError(
            f"{method} needs a record of {epochs} or more passes of training, and this has {record.n_epochs}",
            "train for more epochs (--epochs), or score with el2n, loss, margin, entropy or confidence",
        )


def _early(record: Record, epoch: int | None, method: str) -> int:
    there = record.eval_epochs
    if not there:
        raise InputError(f"{method} needs a look in eval mode, and the record has none", "score with aum or forgetting")
    if record.n_epochs == 0 and len(there) == 1 and epoch is None:
        return there[0]
    wanted = early_epoch(record.n_epochs) if epoch is None else epoch
    if wanted not in there:
        raise InputError(
            f"{method} is taken after epoch {wanted}, and the record looks after {', '.join(map(str, there))}",
            f"take another: -p {method}.epoch={min(there, key=lambda e: abs(e - wanted))}",
        )
    return wanted


def _last(record: Record, column: str, method: str) -> FloatArray:
    if not record.eval_epochs:
        raise InputError(f"{method} needs a look in eval mode, and the record has none", "score with aum or forgetting")
    return _float64(record.evaluated(record.eval_epochs[-1], column))


def _first_epochs(record: Record, epochs: int | None, published: int, method: str) -> int:
    wanted = min(record.n_epochs, published) if epochs is None else epochs
    _require_training(record, method, max(wanted, 2))
    return wanted


def _window(n_epochs: int, window: int | None) -> int:
    return max(2, min(WINDOW, n_epochs // 3)) if window is None else window


def _windows(
    record: Record, method: str, column: str, epochs: int, window: int, first: int = 0
) -> Iterator[FloatArray]:
    """Yield (J, N) float64, each run of J passes among the passes ``first`` to ``epochs``."""
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
        held.append(_float64(values))
        if len(held) == window:
            yield np.stack(held)


def _mean_of_windows(
    record: Record, method: str, epochs: int, window: int, of: Callable[[FloatArray], FloatArray]
) -> FloatArray:
    total_n, count = np.zeros(record.n_samples), 0
    for p_jn in _windows(record, method, "p_label", epochs, window):
        total_n += of(p_jn)
        count += 1
    return total_n / count
