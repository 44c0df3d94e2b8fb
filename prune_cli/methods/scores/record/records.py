"""The record of one run: what a training, or one model, said of every sample.

Every score of the record is a pure function of one. Training writes one, a file holds one, and the probabilities of any model make a
small one; which it was, a score neither knows nor cares.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.errors import InputError
from prune_cli.core.measures import CURES, GRADIENT_NORM, MEASURES, Mode
from prune_cli.methods.scores.record.needs import early_epoch

FloatArray: TypeAlias = NDArray[np.float64]


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


def record_of_logits(logits_nc: NDArray[Any], codes_n: NDArray[np.int64], gradient_norms_n: NDArray[Any] | None = None) -> ArrayRecord:
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


def require_training(record: Record, method: str, epochs: int) -> None:
    """Raise where a record has fewer passes of training than a score needs.

    Raises:
        InputError: it has.
    """
    if record.n_epochs >= epochs:
        return
    from prune_cli.methods.registry.lookup import scores_of_record

    *others, last = scores_of_record(lambda needs: needs.of_probabilities)
    raise InputError(
        f"{method} needs a record of {epochs} or more passes of training, and this has {record.n_epochs}",
        f"train for more epochs (--epochs), or score with {', '.join(others)} or {last}",
    )


def early_look(record: Record, column: str, epoch: int | None, method: str) -> FloatArray:
    """Return (N,) one column of the look after a pass, early in training where none is named; of one model its only look.

    Raises:
        InputError: the record has no look after that pass, or not this column.
    """
    there = _looks(record, method)
    wanted = early_epoch(record.n_epochs) if epoch is None else epoch
    if record.n_epochs == 0 and len(there) == 1 and epoch is None:
        wanted = there[0]
    if wanted not in there:
        raise InputError(
            f"{method} is taken after epoch {wanted}, and the record looks after {', '.join(map(str, there))}",
            f"take another: -p {method}.epoch={min(there, key=lambda e: abs(e - wanted))}",
        )
    return np.asarray(record.evaluated(wanted, column), np.float64)


def last_look(record: Record, column: str, method: str) -> FloatArray:
    """Return (N,) one column of the last look.

    Raises:
        InputError: the record has no look, or not this column.
    """
    return np.asarray(record.evaluated(_looks(record, method)[-1], column), np.float64)


def _looks(record: Record, method: str) -> tuple[int, ...]:
    if not record.eval_epochs:
        raise InputError(f"{method} needs a look in eval mode, and the record has none", "score with aum or forgetting")
    return record.eval_epochs


def _lacks(column: str, mode: Mode) -> InputError:
    return InputError(f"the record has no '{column}' in {mode} mode", CURES.get(column, "make the record with prune score --save-dynamics"))
