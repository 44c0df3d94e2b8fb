"""A small real problem and an observer that keeps what it is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from prune_cli.methods.training.data.inputs import Inputs, TrainingSet
from prune_cli.methods.training.loop.contract import Checkpoint


class Recorder:
    """Keeps every call; asks for a checkpoint, or to stop, after given steps."""

    def __init__(self, checkpoint_at: tuple[int, ...] = (), stop_at: int | None = None) -> None:
        self.steps: list[tuple[int, int, int]] = []
        self.facts: list[dict[str, float]] = []
        self.rows: list[dict[str, float | int]] = []
        self.checkpoints: list[Checkpoint] = []
        self.notes: list[str] = []
        self._checkpoint_at, self._stop_at = checkpoint_at, stop_at

    def on_step(self, step: int, steps: int, samples: int, facts: Mapping[str, float]) -> None:
        self.steps.append((step, steps, samples))
        self.facts.append(dict(facts))

    def on_pass(self, row: Mapping[str, float | int]) -> None:
        self.rows.append(dict(row))

    def should_checkpoint(self) -> bool:
        return self.steps[-1][0] in self._checkpoint_at

    def save_checkpoint(self, tensors: dict[str, np.ndarray], state: dict[str, Any]) -> None:
        self.checkpoints.append(Checkpoint(tensors, json.loads(json.dumps(state))))

    def should_stop(self) -> bool:
        return self.steps[-1][0] == self._stop_at

    def on_note(self, note: str) -> None:
        self.notes.append(note)


@pytest.fixture(scope="session")
def recorder() -> type[Recorder]:
    return Recorder


def _training_set(
    inputs: Inputs, labels: np.ndarray, ranks: np.ndarray | None = None, n_ranks: int | None = None, n_classes: int = 10
) -> TrainingSet:
    m = inputs.shape[0]
    ranks = np.arange(m) if ranks is None else ranks
    return TrainingSet(inputs, labels.astype(np.int64), ranks.astype(np.int64), n_ranks or m, n_classes)


@pytest.fixture(scope="session")
def training_set() -> Callable[..., TrainingSet]:
    """Make a training set; the whole data set in its own order unless told otherwise."""
    return _training_set


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 digits: (N, 8, 8, 1) uint8 and labels."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return (images.reshape(-1, 8, 8, 1) * 15.9375).astype(np.uint8), labels.astype(np.int64)
