"""Break-even, worked by hand."""

from __future__ import annotations

import pytest

from prune_cli.methods.evidence import break_even_trainings


@pytest.mark.parametrize(
    ("selecting", "training", "full", "trainings"),
    [
        (100.0, 30.0, 70.0, 3),  # 2.5 times 40
        (80.0, 30.0, 70.0, 2),  # exactly twice
        (1.0, 30.0, 70.0, 1),
        (0.0, 30.0, 70.0, 1),
        (0.0, 70.0, 70.0, None),
        (0.0, 80.0, 70.0, None),
        (0.3, 0.2, 0.3, 3),  # 0.3 / 0.1 is a little above 3 in binary
    ],
)
def test_by_hand(selecting: float, training: float, full: float, trainings: int | None) -> None:
    assert break_even_trainings(selecting, training, full) == trainings
