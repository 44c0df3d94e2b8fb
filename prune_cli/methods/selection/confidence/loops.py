"""Greedy picks by neighbor confidence, over heaps of upper bounds and rows of a graph that may not be there yet."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from prune_cli.methods.selection.greedy import compile_heap

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


DONE, TURN, EXHAUSTED, ONE_HEAP = range(4)
"""Places in the state: picks so far, whose turn it is, size of the first class that ran out (0: none), whether turns are over."""


class Loads(NamedTuple):
    """(N,) float64 each: confidence of the samples over eta, what lies around them, and ``exp(-2 load)``, which `exact` alone needs."""

    c_n: np.ndarray
    load_n: np.ndarray
    rest_n: np.ndarray


class Keys(NamedTuple):
    """(N,) each: upper bounds of what a pick adds, as logarithms; of `exact` at which pick each was true, and a load last rose."""

    keys_n: np.ndarray
    known_n: np.ndarray
    changed_n: np.ndarray


class Heaps(NamedTuple):
    """A heap for each of G classes, one after the other.

    Args:
        heap: (F,) int64 the samples that can be picked.
        first_g, sizes_g, used_g: (G,) int64 where each heap begins, how many are left in it, and picks of the class.
        left_g: (G,) int64, 1 for classes that take no turns any more: they had none to pick when it was theirs.
        turns_k: the class of each pick; empty: they take turns evenly.
        state: (4,) int64.
    """

    heap: np.ndarray
    first_g: np.ndarray
    sizes_g: np.ndarray
    used_g: np.ndarray
    left_g: np.ndarray
    turns_k: np.ndarray
    state: np.ndarray


class Picks(NamedTuple):
    """(K,) samples in the order in which they were picked, and (K,) float64 what each added; zeros after the picks so far."""

    picked_k: np.ndarray
    gains_k: np.ndarray


@functools.cache
def _compile_turns() -> tuple[Any, Any]:
    """Return ``turn`` (the class whose turn it is, or -1) and ``took`` (after a pick: out of the heap, on to the next)."""
    import numba

    sift, build = compile_heap()

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def turn(heaps, keys_n):  # type: ignore[no-untyped-def]
        sizes_g, used_g, left_g, turns_k, state = heaps[2:]
        if len(turns_k) > 0:
            return turns_k[state[DONE]]
        for _ in range(len(sizes_g)):
            g = state[TURN]
            if sizes_g[g] > 0:
                return g
            if left_g[g] == 0:
                left_g[g] = 1
                if state[EXHAUSTED] == 0:
                    state[EXHAUSTED] = used_g[g]
                if 2 * used_g.max() > 3 * state[EXHAUSTED]:
                    end_turns(heaps, keys_n)
                    return 0 if sizes_g[0] > 0 else -1
            state[TURN] = (g + 1) % len(sizes_g)
        return -1

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def end_turns(heaps, keys_n):  # type: ignore[no-untyped-def]
        heap, first_g, sizes_g, _, left_g, _, state = heaps
        left = 0
        for g in range(len(sizes_g)):
            for at in range(first_g[g], first_g[g] + sizes_g[g]):
                heap[left] = heap[at]
                left += 1
        sizes_g[:] = 0
        sizes_g[0] = left
        left_g[:] = 1
        state[TURN], state[ONE_HEAP] = 0, 1
        build(heap[:left], keys_n)

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def took(g, heaps, keys_n):  # type: ignore[no-untyped-def]
        state, heap, first_g, sizes_g = heaps.state, heaps.heap, heaps.first_g, heaps.sizes_g
        sizes_g[g] -= 1
        heaps.used_g[g] += 1
        own = heap[first_g[g] : first_g[g] + sizes_g[g] + 1]
        own[0] = own[sizes_g[g]]
        sift(own, sizes_g[g], keys_n, 0)
        state[DONE] += 1
        if len(heaps.turns_k) == 0 and not state[ONE_HEAP]:
            state[TURN] = (g + 1) % len(sizes_g)

    return turn, took


@functools.cache
def compile_reference() -> Callable[..., int]:
    """Return ``reference(edges, loads, keys, heaps, picks, stop)``: own confidence alone counts.

    The keys are filled, the heaps built.
    """
    import numba

    sift, _ = compile_heap()
    turn, took = _compile_turns()
    gain_of = log_gain()

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def reference(edges, loads, keys, heaps, picks, stop):  # type: ignore[no-untyped-def]
        keys_n, c_n, load_n = keys.keys_n, loads.c_n, loads.load_n
        begin_n, end_n, samples_e, similarities_e = edges
        heap, first_g, sizes_g, state = heaps.heap, heaps.first_g, heaps.sizes_g, heaps.state
        while state[DONE] < stop:
            g = turn(heaps, keys_n)
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
            picks.picked_k[state[DONE]], picks.gains_k[state[DONE]] = top, math.exp(keys_n[top])
            load_n[top] += c_n[top]
            for e in range(begin_n[top], end_n[top]):
                load_n[samples_e[e]] += similarities_e[e] * c_n[top]
            took(g, heaps, keys_n)
        return -1

    return reference  # type: ignore[no-any-return, unused-ignore]


@functools.cache
def compile_value() -> Callable[..., None]:
    """Return ``value(edges, loads, keys, wanted)``, which fills the keys of some samples for `exact`."""
    import numba

    gain_of = exact_gain()

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def value(edges, loads, keys, wanted):  # type: ignore[no-untyped-def]
        for v in wanted:
            keys.keys_n[v] = gain_of(v, edges, loads)

    return value  # type: ignore[no-any-return, unused-ignore]


@functools.cache
def compile_exact() -> Callable[..., int]:
    """Return ``exact(edges, loads, keys, heaps, picks, stop)``, as ``reference``: what all near a pick gain counts."""
    import numba

    sift, _ = compile_heap()
    turn, took = _compile_turns()
    gain_of = exact_gain()

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def untouched(v, edges, keys):  # type: ignore[no-untyped-def]
        known, changed_n, samples_e = keys.known_n[v], keys.changed_n, edges.samples_e
        if changed_n[v] > known:
            return False
        for e in range(edges.begin_n[v], edges.end_n[v]):  # noqa: SIM110 - compiled
            if changed_n[samples_e[e]] > known:
                return False
        return True

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def add(v, done, edges, loads, changed_n):  # type: ignore[no-untyped-def]
        c, load_n, rest_n = loads.c_n[v], loads.load_n, loads.rest_n
        samples_e, similarities_e = edges.samples_e, edges.similarities_e
        load_n[v] += c
        rest_n[v] = math.exp(-2 * load_n[v])
        changed_n[v] = done + 1
        for e in range(edges.begin_n[v], edges.end_n[v]):
            x = samples_e[e]
            load_n[x] += similarities_e[e] * c
            rest_n[x] = math.exp(-2 * load_n[x])
            changed_n[x] = done + 1

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def exact(edges, loads, keys, heaps, picks, stop):  # type: ignore[no-untyped-def]
        keys_n, known_n = keys.keys_n, keys.known_n
        heap, first_g, sizes_g, state = heaps.heap, heaps.first_g, heaps.sizes_g, heaps.state
        while state[DONE] < stop:
            g = turn(heaps, keys_n)
            if g < 0:
                break
            own = heap[first_g[g] : first_g[g] + sizes_g[g]]
            top = own[0]
            if edges.begin_n[top] < 0:
                return top
            done = state[DONE]
            if known_n[top] < done and not untouched(top, edges, keys):
                keys_n[top] = min(keys_n[top], gain_of(top, edges, loads))
                known_n[top] = done
                sift(own, sizes_g[g], keys_n, 0)
                continue
            picks.picked_k[done], picks.gains_k[done] = top, math.exp(keys_n[top])
            add(top, done, edges, loads, keys.changed_n)
            took(g, heaps, keys_n)
        return -1

    return exact  # type: ignore[no-any-return, unused-ignore]
