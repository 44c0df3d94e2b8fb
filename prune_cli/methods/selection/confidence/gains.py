"""What a pick adds, as a logarithm: tanh saturates, ``log [tanh(a + c) - tanh(a)]`` does not."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

_UNDERFLOW = 300.0  # beyond this load exp(-2 a) is left out, and sums are taken relative to their largest term


@functools.cache
def log_gain() -> Callable[[float, float], float]:
    r"""Return the compiled ``log [tanh(a + c) - tanh(a)] = log sinh c - log cosh a - log cosh(a + c)``, for a >= 0; -inf where c is 0.

    Example:
        >>> round(math.exp(log_gain()(0.5, 1.0)), 6) == round(math.tanh(1.5) - math.tanh(0.5), 6), log_gain()(1000.0, 1.0) < -1990
        (True, True)
    """
    import numba

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def gain(a, c):  # type: ignore[no-untyped-def]
        if c <= 0.0:
            return -math.inf
        rest = math.log1p(math.exp(-2 * a)) + math.log1p(math.exp(-2 * (a + c)))
        return math.log(-2 * math.expm1(-2 * c)) - 2 * a - rest

    return gain  # type: ignore[no-any-return, unused-ignore]


def log_gains(load_n: np.ndarray, c_n: np.ndarray) -> np.ndarray:
    """Return `log_gain` of each, -inf where c is 0."""
    with np.errstate(divide="ignore"):
        rest = np.log1p(np.exp(-2 * load_n)) + np.log1p(np.exp(-2 * (load_n + c_n)))
        found: np.ndarray = np.log(-2 * np.expm1(-2 * c_n)) - 2 * load_n - rest
    return found


@functools.cache
def exact_gain() -> Any:
    """Return ``gain(v, edges, loads)``: the logarithm of what all near sample v gain by it."""
    import numba

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def gain(v, edges, loads):  # type: ignore[no-untyped-def]
        c, load_n, rest_n = loads.c_n[v], loads.load_n, loads.rest_n
        samples_e, similarities_e = edges.samples_e, edges.similarities_e
        if c <= 0.0:
            return -math.inf
        first, end = edges.begin_n[v], edges.end_n[v]
        least = load_n[v]
        for e in range(first, end):
            least = min(least, load_n[samples_e[e]])
        w = math.exp(-2 * c)
        if least < _UNDERFLOW:
            u = rest_n[v]
            total = u * (1 - w) / ((1 + u) * (1 + u * w))
            for e in range(first, end):
                u = rest_n[samples_e[e]]
                w = math.exp(-2 * c * similarities_e[e])
                total += u * (1 - w) / ((1 + u) * (1 + u * w))
            return math.log(2 * total)
        total = -math.expm1(-2 * c) * math.exp(-2 * (load_n[v] - least))
        for e in range(first, end):
            away = load_n[samples_e[e]] - least
            if away < _UNDERFLOW:
                total -= math.expm1(-2 * c * similarities_e[e]) * math.exp(-2 * away)
        return math.log(2 * total) - 2 * least

    return gain
