"""Greedy picks by neighbor confidence, over heaps of upper bounds and rows of a graph that may not be there yet.

The loads are ``a_x = N(x; S) / eta``; what a sample is worth only falls as they rise, so a value from before is an upper bound
(see lazy_greedy.py). Values are logarithms: tanh saturates, ``log [tanh(a + c) - tanh(a)]`` does not. Each function runs until
so many are picked, or until it needs the row of a sample that is not there: then it returns the sample, and is called again.
Equal values go by position. One sequential loop: the same bits whatever the number of threads.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from prune_cli.methods.selection.greedy.lazy import compile_heap

DONE, TURN, EXHAUSTED, ONE_HEAP = range(4)
"""Places in the state: picks so far, whose turn it is, size of the first class that ran out (0: none), whether turns are over."""

_UNDERFLOW = 300.0  # beyond this load exp(-2 a) is left out, and sums are taken relative to their largest term


@functools.cache
def _compile_turns() -> tuple[Any, Any]:
    """Return ``turn`` (the class whose turn it is, or -1) and ``took`` (after a pick: out of the heap, on to the next)."""
    import numba

    sift, build = compile_heap()

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def turn(state, sizes_g, turns_k):  # type: ignore[no-untyped-def]
        if len(turns_k) > 0:
            return turns_k[state[DONE]]
        for _ in range(len(sizes_g)):
            if sizes_g[state[TURN]] > 0:
                return state[TURN]
            state[TURN] = (state[TURN] + 1) % len(sizes_g)
        return -1

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def took(g, fixed, state, heap, first_g, sizes_g, used_g, keys_n):  # type: ignore[no-untyped-def]
        sizes_g[g] -= 1
        used_g[g] += 1
        own = heap[first_g[g] : first_g[g] + sizes_g[g] + 1]
        own[0] = own[sizes_g[g]]
        sift(own, sizes_g[g], keys_n, 0)
        state[DONE] += 1
        if fixed or state[ONE_HEAP]:
            return
        state[TURN] = (g + 1) % len(sizes_g)
        if sizes_g[g] == 0 and state[EXHAUSTED] == 0:
            state[EXHAUSTED] = used_g[g]
        if state[EXHAUSTED] > 0 and 2 * used_g[g] > 3 * state[EXHAUSTED]:
            left = 0
            for other in range(len(sizes_g)):
                for at in range(first_g[other], first_g[other] + sizes_g[other]):
                    heap[left] = heap[at]
                    left += 1
            sizes_g[:] = 0
            sizes_g[0] = left
            state[TURN], state[ONE_HEAP] = 0, 1
            build(heap[:left], keys_n)

    return turn, took


@functools.cache
def _compile_log_gain() -> Any:
    import numba

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def log_gain(a, c):  # type: ignore[no-untyped-def]
        if c <= 0.0:
            return -math.inf
        rest = math.log1p(math.exp(-2 * a)) + math.log1p(math.exp(-2 * (a + c)))
        return math.log(-2 * math.expm1(-2 * c)) - 2 * a - rest

    return log_gain


def log_gain() -> Callable[[float, float], float]:
    r"""Return the compiled ``log [tanh(a + c) - tanh(a)] = log sinh c - log cosh a - log cosh(a + c)``, for a >= 0.

    Example:
        >>> round(math.exp(log_gain()(0.5, 1.0)), 6) == round(math.tanh(1.5) - math.tanh(0.5), 6), log_gain()(1000.0, 1.0) < -1990
        (True, True)
    """
    found: Callable[[float, float], float] = _compile_log_gain()
    return found


@functools.cache
def compile_reference() -> Callable[..., int]:
    """Return ``reference(rows..., c_n, load_n, keys_n, heaps..., state, picked_k, gains_k, stop)``: own confidence alone counts.

    rows: begin_n, end_n, samples_e, similarities_e. heaps: heap, first_g, sizes_g, used_g,
    and turns_k, the class of each pick (empty: they take turns evenly). The keys are filled, the heaps built.
    """
    import numba

    sift, _ = compile_heap()
    turn, took = _compile_turns()
    gain_of = _compile_log_gain()

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def reference(  # type: ignore[no-untyped-def]
        begin_n, end_n, samples_e, similarities_e, c_n, load_n, keys_n, heap, first_g, sizes_g, used_g, turns_k, state,
        picked_k, gains_k, stop,
    ):  # fmt: skip
        while state[DONE] < stop:
            g = turn(state, sizes_g, turns_k)
            if g < 0:
                break
            own = heap[first_g[g] : first_g[g] + sizes_g[g]]
            top = own[0]
            key = gain_of(load_n[top], c_n[top])
            if key < keys_n[top]:
                keys_n[top] = key
                sift(own, sizes_g[g], keys_n, 0)
                continue
            if begin_n[top] < 0:
                return top
            picked_k[state[DONE]], gains_k[state[DONE]] = top, math.exp(keys_n[top])
            load_n[top] += c_n[top]
            for e in range(begin_n[top], end_n[top]):
                load_n[samples_e[e]] += similarities_e[e] * c_n[top]
            took(g, len(turns_k) > 0, state, heap, first_g, sizes_g, used_g, keys_n)
        return -1

    return reference  # type: ignore[no-any-return, unused-ignore]


@functools.cache
def compile_exact() -> tuple[Callable[..., None], Callable[..., int]]:
    """Return ``value`` (fills the keys of some samples) and ``exact`` (as ``reference``): what all near a pick gain counts.

    ``value(rows..., c_n, load_n, wanted, keys_n)``; ``exact`` has ``known_n`` (at which pick a key was up to date) and
    ``changed_n`` (after which pick a load last rose) between the keys and the heaps.
    """
    import numba

    sift, _ = compile_heap()
    turn, took = _compile_turns()

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def gain_of(v, begin_n, end_n, samples_e, similarities_e, c, load_n, rest_n):  # type: ignore[no-untyped-def]
        if c <= 0.0:
            return -math.inf
        least = load_n[v]
        for e in range(begin_n[v], end_n[v]):
            least = min(least, load_n[samples_e[e]])
        w = math.exp(-2 * c)
        if least < _UNDERFLOW:
            u = rest_n[v]
            total = u * (1 - w) / ((1 + u) * (1 + u * w))
            for e in range(begin_n[v], end_n[v]):
                u = rest_n[samples_e[e]]
                w = math.exp(-2 * c * similarities_e[e])
                total += u * (1 - w) / ((1 + u) * (1 + u * w))
            return math.log(2 * total)
        total = -math.expm1(-2 * c) * math.exp(-2 * (load_n[v] - least))
        for e in range(begin_n[v], end_n[v]):
            away = load_n[samples_e[e]] - least
            if away < _UNDERFLOW:
                total -= math.expm1(-2 * c * similarities_e[e]) * math.exp(-2 * away)
        return math.log(2 * total) - 2 * least

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def value(begin_n, end_n, samples_e, similarities_e, c_n, load_n, rest_n, wanted, keys_n):  # type: ignore[no-untyped-def]
        for v in wanted:
            keys_n[v] = gain_of(v, begin_n, end_n, samples_e, similarities_e, c_n[v], load_n, rest_n)

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def untouched(v, known, begin_n, end_n, samples_e, changed_n):  # type: ignore[no-untyped-def]
        if changed_n[v] > known:
            return False
        for e in range(begin_n[v], end_n[v]):  # noqa: SIM110 - compiled
            if changed_n[samples_e[e]] > known:
                return False
        return True

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def exact(  # type: ignore[no-untyped-def]
        begin_n, end_n, samples_e, similarities_e, c_n, load_n, rest_n, keys_n, known_n, changed_n, heap, first_g, sizes_g,
        used_g, turns_k, state, picked_k, gains_k, stop,
    ):  # fmt: skip
        while state[DONE] < stop:
            g = turn(state, sizes_g, turns_k)
            if g < 0:
                break
            own = heap[first_g[g] : first_g[g] + sizes_g[g]]
            top = own[0]
            if begin_n[top] < 0:
                return top
            done = state[DONE]
            if known_n[top] < done and not untouched(top, known_n[top], begin_n, end_n, samples_e, changed_n):
                keys_n[top] = min(
                    keys_n[top], gain_of(top, begin_n, end_n, samples_e, similarities_e, c_n[top], load_n, rest_n)
                )
                known_n[top] = done
                sift(own, sizes_g[g], keys_n, 0)
                continue
            picked_k[done], gains_k[done] = top, math.exp(keys_n[top])
            load_n[top] += c_n[top]
            rest_n[top] = math.exp(-2 * load_n[top])
            changed_n[top] = done + 1
            for e in range(begin_n[top], end_n[top]):
                x = samples_e[e]
                load_n[x] += similarities_e[e] * c_n[top]
                rest_n[x] = math.exp(-2 * load_n[x])
                changed_n[x] = done + 1
            took(g, len(turns_k) > 0, state, heap, first_g, sizes_g, used_g, keys_n)
        return -1

    return value, exact
