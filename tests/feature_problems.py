"""Small problems of scores from features."""

from __future__ import annotations

import numpy as np


def problem(seed: int, n: int = 60, d: int = 5, dtype: type = np.float64) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = rng.choice([0, 1, 4], size=n)
    return (rng.normal(size=(n, d)) + 2.0 * rng.normal(size=(5, d))[codes]).astype(dtype), codes


def blobs(n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Three classes in three directions, far from each other."""
    codes = np.arange(n) % 3
    return np.random.default_rng(5).normal(scale=0.3, size=(n, 6)) + 10.0 * np.eye(6)[codes], codes


def only(scores: dict[str, np.ndarray]) -> np.ndarray:
    assert len(scores) == 1
    return next(iter(scores.values()))
