"""Inputs: batches in memory and streamed, what a training set refuses."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from prune_cli.core.errors import InputError
from prune_cli.methods.training.data.inputs import TrainingSet, channel_statistics, input_batches


@dataclass
class Stream:
    """Pictures that a source hands out, or an error at one of them."""

    images: np.ndarray
    bad: int | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.images.shape  # type: ignore[return-value]

    def take(self, positions: np.ndarray) -> np.ndarray:
        if self.bad in positions:
            raise InputError(f"row {self.bad} cannot be read any more", "look at it")
        return self.images[positions]


def images(n: int = 30, shape: tuple[int, int, int] = (4, 5, 3)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8)


def test_a_stream_gives_the_batches_of_memory_in_order():
    x = images()
    positions = [np.array([3, 1, 2]), np.array([29]), np.array([0, 0]), *[np.array([i]) for i in range(10)]]
    cpu = torch.device("cpu")
    for workers in (1, 2):
        streamed = list(input_batches(Stream(x), positions, cpu, workers))
        resident = list(input_batches(x, positions, cpu, workers))
        assert len(streamed) == len(resident) == len(positions)
        for a, b, p in zip(streamed, resident, positions, strict=True):
            assert torch.equal(a, b) and np.array_equal(a.numpy(), x[p])
    for a, b in zip(channel_statistics(Stream(x), np.arange(30), 2), channel_statistics(x, np.arange(30), 2), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_error_in_a_worker_reads_as_it_was_raised():
    with pytest.raises(InputError, match=r"^row 7 cannot be read any more\n  cure: look at it$"):
        list(input_batches(Stream(images(), bad=7), [np.array([1]), np.array([7])], torch.device("cpu"), 1))


@dataclass
class Signalled(Stream):
    """A source in whose worker a signal arrives, as from Ctrl-C at a terminal."""

    number: int = signal.SIGINT

    def take(self, positions: np.ndarray) -> np.ndarray:
        os.kill(os.getpid(), self.number)
        return super().take(positions)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_leave_signals_to_their_parent(number):
    x = images()
    positions = [np.array([i]) for i in range(5)]
    batches = list(input_batches(Signalled(x, number=number), positions, torch.device("cpu"), 1))
    assert [b.numpy().tolist() for b in batches] == [x[p].tolist() for p in positions]


def test_read_only_arrays_will_do():
    x = images()
    x.flags.writeable = False
    [batch] = input_batches(x, [np.array([1, 2])], torch.device("cpu"), 1)
    assert np.array_equal(batch.numpy(), x[1:3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": np.zeros((3, 2, 2), np.uint8)}, "inputs are uint8"),
        ({"inputs": np.zeros((3, 2, 2, 1), np.float32)}, "inputs are float32"),
        ({"inputs": np.zeros((3, 2), np.float64)}, "inputs are float64"),
        ({"inputs": np.zeros((1, 2), np.float32)}, "1 sample"),
        ({"labels_m": np.array([0, 1, 2])}, "labels reach from 0 to 2"),
        ({"labels_m": np.array([0, -1, 1])}, "labels reach from -1"),
        ({"labels_m": np.array([0, 1])}, "labels are int64"),
        ({"labels_m": np.array([0, 1, 1], np.int32)}, "labels are int32"),
        ({"ranks_m": np.array([0, 1, 5])}, "ranks reach from 0 to 5"),
        ({"ranks_m": np.array([0, 1, 1])}, "same rank"),
    ],
)
def test_a_training_set_that_does_not_fit(change: dict[str, Any], message: str):
    good: dict[str, Any] = {
        "inputs": np.zeros((3, 2), np.float32),
        "labels_m": np.array([0, 1, 1]),
        "ranks_m": np.array([4, 0, 2]),
        "n_ranks": 5,
        "n_classes": 2,
    }
    TrainingSet(**good)
    with pytest.raises(InputError, match=message):
        TrainingSet(**good | change)
