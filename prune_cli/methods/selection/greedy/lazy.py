"""Greedy picks over a heap of upper bounds: a value is computed again only when it stands at the top.

What a sample is worth only falls as others are picked, so a value from before is an upper bound. The heap's top is
brought up to date; if it stays at the top it is the best of all, and the picks are those of the plain greedy algorithm.
Each function is one sequential loop compiled by numba: the same bits whatever the number of threads. Equal values go by
position.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

_FAST = {"reassoc", "contract", "nsz"}  # sums in vector registers; no promise about NaN is broken


@functools.cache
def compile_heap() -> tuple[Any, Any]:
    """Return ``sift(heap, size, keys, at)`` and ``build(heap, keys)``: the largest key on top, of equals the least position."""
    import numba

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def sift(heap, size, keys, at):  # type: ignore[no-untyped-def]
        moved = heap[at]
        while True:
            child = 2 * at + 1
            if child >= size:
                break
            if child + 1 < size:
                a, b = heap[child], heap[child + 1]
                if keys[b] > keys[a] or (keys[b] == keys[a] and b < a):
                    child += 1
            below = heap[child]
            if keys[moved] > keys[below] or (keys[moved] == keys[below] and moved < below):
                break
            heap[at] = below
            at = child
        heap[at] = moved

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def build(heap, keys):  # type: ignore[no-untyped-def]
        for at in range(len(heap) // 2 - 1, -1, -1):
            sift(heap, len(heap), keys, at)

    return sift, build


@functools.cache
def compile_k_center() -> Callable[..., None]:
    """Return ``k_center(rows_nd, heap, centers_md, n_given, known_n, bounds_n, picked_k, gains_k)``.

    ``centers_md`` has room for all centers, the first ``n_given`` of which are there already; ``bounds_n`` float32 is the squared
    distance of each sample to the ``known_n`` first centers.
    """
    import numba

    sift, build = compile_heap()

    @numba.njit(nogil=True, fastmath=_FAST)  # type: ignore[untyped-decorator, unused-ignore]
    def squared_distance(a_d, b_d):  # type: ignore[no-untyped-def]
        total = np.float32(0.0)
        for d in range(len(a_d)):
            away = a_d[d] - b_d[d]
            total += away * away
        return total

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def k_center(rows_nd, heap, centers_md, n_given, known_n, bounds_n, picked_k, gains_k):  # type: ignore[no-untyped-def]
        build(heap, bounds_n)
        size, n_centers, done = len(heap), n_given, 0
        while done < len(picked_k):
            top = heap[0]
            if known_n[top] == n_centers:
                picked_k[done], gains_k[done] = top, np.sqrt(bounds_n[top])
                centers_md[n_centers] = rows_nd[top]
                n_centers += 1
                done += 1
                size -= 1
                heap[0] = heap[size]
            else:
                rival = np.float32(-1.0)  # what the top must stay above to remain there
                if size > 1:
                    rival = bounds_n[heap[1]]
                if size > 2:
                    rival = max(rival, bounds_n[heap[2]])
                bound, at = bounds_n[top], known_n[top]
                while at < n_centers and bound >= rival:
                    bound = min(bound, squared_distance(rows_nd[top], centers_md[at]))
                    at += 1
                bounds_n[top], known_n[top] = bound, at
            sift(heap, size, bounds_n, 0)

    return k_center


@functools.cache
def compile_graph_cut() -> Callable[..., None]:
    """Return ``graph_cut(rows_nd, heap, gains_n, least, sum_d, penalty, picked_k, gains_k)``.

    ``gains_n`` is what each sample adds before the first pick; every pick takes ``penalty * ((1 + cos) / 2)`` of it, of which
    ``penalty * least`` is taken from all alike and left out of the heap's keys. ``sum_d`` is the sum of the rows picked.
    """
    import numba

    sift, build = compile_heap()

    @numba.njit(nogil=True, fastmath=_FAST)  # type: ignore[untyped-decorator, unused-ignore]
    def dot(a_d, b_d):  # type: ignore[no-untyped-def]
        total = 0.0
        for d in range(len(a_d)):
            total += a_d[d] * b_d[d]
        return total

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def graph_cut(rows_nd, heap, gains_n, least, sum_d, penalty, picked_k, gains_k):  # type: ignore[no-untyped-def]
        first_n = gains_n.copy()
        known_n = np.zeros(len(gains_n), np.int64)
        build(heap, gains_n)
        size, done = len(heap), 0
        while done < len(picked_k):
            top = heap[0]
            if known_n[top] == done:
                picked_k[done], gains_k[done] = top, gains_n[top] - penalty * least * done
                for d in range(len(sum_d)):
                    sum_d[d] += rows_nd[top, d]
                done += 1
                size -= 1
                heap[0] = heap[size]
            else:
                near = 0.5 * (done + dot(rows_nd[top], sum_d))
                gains_n[top] = first_n[top] - penalty * (near - least * done)
                known_n[top] = done
            sift(heap, size, gains_n, 0)

    return graph_cut


@functools.cache
def compile_facility_location() -> Callable[..., None]:
    """Return ``facility_location(begin_n, end_n, samples_e, similarities_e, covered_n, heap, picked_k, gains_k)``.

    Sample j covers ``samples_e[begin_n[j]:end_n[j]]``, each by its similarity; ``covered_n`` is how far each sample is covered
    already.
    """
    import numba

    sift, build = compile_heap()

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def gain(j, begin_n, end_n, samples_e, similarities_e, covered_n):  # type: ignore[no-untyped-def]
        total = 0.0
        for e in range(begin_n[j], end_n[j]):
            total += max(0.0, similarities_e[e] - covered_n[samples_e[e]])
        return total

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def facility_location(begin_n, end_n, samples_e, similarities_e, covered_n, heap, picked_k, gains_k):  # type: ignore[no-untyped-def]
        n_samples = len(begin_n)
        gains_n, known_n = np.zeros(n_samples), np.zeros(n_samples, np.int64)
        for at in range(len(heap)):
            gains_n[heap[at]] = gain(heap[at], begin_n, end_n, samples_e, similarities_e, covered_n)
        build(heap, gains_n)
        size, done = len(heap), 0
        while done < len(picked_k):
            top = heap[0]
            if known_n[top] == done:
                picked_k[done], gains_k[done] = top, gains_n[top]
                for e in range(begin_n[top], end_n[top]):
                    covered_n[samples_e[e]] = max(covered_n[samples_e[e]], similarities_e[e])
                done += 1
                size -= 1
                heap[0] = heap[size]
            else:
                gains_n[top] = gain(top, begin_n, end_n, samples_e, similarities_e, covered_n)
                known_n[top] = done
            sift(heap, size, gains_n, 0)

    return facility_location


@functools.cache
def compile_covers() -> Callable[..., None]:
    """Return ``covers(near_nk, distances_nk, next_n, samples_e, similarities_e)``: the neighbors' graph turned round.

    ``next_n`` is where each sample's part of the edges begins; the sample itself is its first edge.
    """
    import numba

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def covers(near_nk, distances_nk, next_n, samples_e, similarities_e):  # type: ignore[no-untyped-def]
        for j in range(len(near_nk)):
            samples_e[next_n[j]], similarities_e[next_n[j]] = j, 1.0
            next_n[j] += 1
        for i in range(near_nk.shape[0]):
            for k in range(near_nk.shape[1]):
                j, away = near_nk[i, k], distances_nk[i, k]
                samples_e[next_n[j]] = i
                similarities_e[next_n[j]] = np.float32(1.0) - away * away / np.float32(4.0)
                next_n[j] += 1

    return covers


@functools.cache
def compile_message_passing() -> Callable[..., None]:
    """Return ``message_passing(near_nk, weights_nk, values_n, heap, picked_k, gains_k)``; ``values_n`` only falls."""
    import numba

    sift, build = compile_heap()

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def message_passing(near_nk, weights_nk, values_n, heap, picked_k, gains_k):  # type: ignore[no-untyped-def]
        keys_n = values_n.copy()
        build(heap, keys_n)
        size, done = len(heap), 0
        while done < len(picked_k):
            top = heap[0]
            if keys_n[top] == values_n[top]:
                value = values_n[top]
                picked_k[done], gains_k[done] = top, value
                if value > 0.0:
                    for k in range(near_nk.shape[1]):
                        values_n[near_nk[top, k]] -= weights_nk[top, k] * value
                done += 1
                size -= 1
                heap[0] = heap[size]
            else:
                keys_n[top] = values_n[top]
            sift(heap, size, keys_n, 0)

    return message_passing


@functools.cache
def compile_herding() -> Callable[..., None]:
    """Return ``herding(rows_nd, mean_d, weight_d, taken_n, picked_k, gains_k)``: not lazy, every row is looked at a pick."""
    import numba

    @numba.njit(nogil=True, fastmath=_FAST)  # type: ignore[untyped-decorator, unused-ignore]
    def dot(a_d, b_d):  # type: ignore[no-untyped-def]
        total = np.float32(0.0)
        for d in range(len(a_d)):
            total += a_d[d] * b_d[d]
        return total

    @numba.njit(nogil=True, parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
    def outputs(rows_nd, weight_d, taken_n, outputs_n):  # type: ignore[no-untyped-def]
        for i in numba.prange(len(rows_nd)):
            outputs_n[i] = -np.inf if taken_n[i] else dot(rows_nd[i], weight_d)

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
    def herding(rows_nd, mean_d, weight_d, taken_n, picked_k, gains_k):  # type: ignore[no-untyped-def]
        outputs_n = np.empty(len(rows_nd), np.float32)
        for done in range(len(picked_k)):
            outputs(rows_nd, weight_d.astype(np.float32), taken_n, outputs_n)
            best = np.argmax(outputs_n)
            picked_k[done], gains_k[done] = best, outputs_n[best]
            taken_n[best] = True
            for d in range(len(weight_d)):
                weight_d[d] += mean_d[d] - rows_nd[best, d]

    return herding
