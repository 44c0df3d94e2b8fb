"""Copies with different labels are found by their complexity gaps, and copies with the same label are none."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_problems import problem, samples_of

from prune_cli.methods.scores.kernel.complexity_gap import ComplexityGapParams
from prune_cli.methods.scores.kernel.contradictions import contradictory_pairs
from prune_cli.methods.scores.kernel.pieces.solving import kernel_solution


@pytest.mark.parametrize("apart", [0.0, 1e-4])
def test_a_pair_that_is_alike_and_labelled_otherwise_is_named_once(apart: float) -> None:
    values, codes = problem(3, 300)
    other = int(np.flatnonzero(codes != codes[5])[0])
    same = int(np.flatnonzero(codes == codes[20])[-1])
    values[other] = values[5] * 2.0 + apart * np.roll(values[5], 1)
    values[same] = values[20]
    solution = kernel_solution(values, codes, ComplexityGapParams())
    assert solution.gap_n[[5, other]].min() > 20 * np.median(solution.gap_n)
    assert contradictory_pairs(samples_of(values, codes), solution.gap_n, "cpu") == [(min(5, other), max(5, other))]


def test_there_are_none_where_no_two_rows_are_alike() -> None:
    values, codes = problem(3, 200)
    gaps = kernel_solution(values, codes, ComplexityGapParams()).gap_n
    assert contradictory_pairs(samples_of(values, codes), gaps, "cpu") == []
    gaps[7] = 1e6  # a gap that no copy explains
    assert contradictory_pairs(samples_of(values, codes), gaps, "cpu") == []
