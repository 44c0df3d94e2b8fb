"""Greedy picks over a heap of upper bounds: a value is computed again only when it stands at the top.

What a sample is worth only falls as others are picked, so a value from before is an upper bound. The heap's top is
brought up to date; if it stays at the top it is the best of all, and the picks are those of the plain greedy algorithm.
A loop over such a heap is sequential and compiled by numba: the same bits whatever the number of threads. Equal values go by
position.
"""

from __future__ import annotations

import functools
from typing import Any


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
