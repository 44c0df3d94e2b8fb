"""The draws of ``zcore``: a point in a subspace, the sample nearest to it, and what the neighbors of this one lose.

This module imports numba inside functions only. Functions that take others and return one are those that numba compiles
together; the bits are those of the same lines in Python.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.arrays import FloatArray, IntArray


class Scratch(NamedTuple):
    """What a thread writes over draw by draw, a number a sample.

    Args:
        distances_n: to the point, then to the sample nearest to it.
        near_n: samples that may be among the neighbors.
        spare_n: distances that are moved about.
    """

    distances_n: FloatArray
    near_n: IntArray
    spare_n: FloatArray


def draw_points(uniform_bu: FloatArray, ranges_3d: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return (B, S) different features and (B, S) coordinates of a point, from (B, 2 S) uniform numbers."""
    size = uniform_bu.shape[1] // 2
    n_features = ranges_3d.shape[1]
    axes = np.empty((len(uniform_bu), size), np.int64)
    for j in range(size):
        last = n_features - size + j
        axis = (uniform_bu[:, j] * (last + 1)).astype(np.int64)
        axes[:, j] = np.where((axes[:, :j] == axis[:, None]).any(axis=1), last, axis)
    low, mode, high = ranges_3d[:, axes]
    u, width = uniform_bu[:, size:], high - low
    rising = low + np.sqrt(u * width * (mode - low))
    falling = high - np.sqrt((1.0 - u) * width * (high - mode))
    return axes, np.where(u * width < mode - low, rising, falling)


@functools.cache
def compile_draw_block() -> Callable[..., None]:
    """Return the function that does a block of draws on all threads; each draw writes to rows of its own."""
    import numba

    compiled = numba.njit(nogil=True)
    select = compiled(_select)
    draw = compiled(_draw(compiled(_write_distances), compiled(_reach(select)), compiled(_within(select)), compiled(_share_loss)))

    @numba.njit(nogil=True, parallel=True)  # type: ignore[untyped-decorator, unused-ignore]
    def draw_lanes(lanes, columns_dn, axes_bs, points_bs, exponent, probes, chosen_b, near_bk, loss_bk):  # type: ignore[no-untyped-def]
        n_samples = columns_dn.shape[1]
        for lane in numba.prange(lanes):
            scratch = Scratch(np.empty(n_samples), np.empty(n_samples, np.int64), np.empty(n_samples))
            for b in range(lane, len(chosen_b), lanes):
                chosen_b[b] = draw(columns_dn, axes_bs[b], points_bs[b], exponent, probes, near_bk[b], loss_bk[b], scratch)

    def draw_block(*arguments: Any) -> None:
        draw_lanes(numba.get_num_threads(), *arguments)

    return draw_block


def _draw(
    write_distances: Callable[..., None],
    reach: Callable[..., float],
    within: Callable[..., tuple[int, float]],
    share_loss: Callable[..., None],
) -> Callable[..., int]:
    def draw(
        columns_dn: NDArray[Any],
        axes_s: IntArray,
        point_s: FloatArray,
        exponent: int,
        probes: int,
        near_k: IntArray,
        loss_k: FloatArray,
        scratch: Scratch,
    ) -> int:
        """Return the sample nearest to the point, and write its neighbors and what they lose."""
        distances_n, wanted = scratch.distances_n, len(near_k)
        write_distances(columns_dn, axes_s, point_s, distances_n)
        chosen = 0
        for i in range(len(distances_n)):
            if distances_n[i] < distances_n[chosen]:
                chosen = i
        if wanted == 0:
            return chosen
        for j in range(len(axes_s)):
            point_s[j] = columns_dn[axes_s[j], chosen]
        write_distances(columns_dn, axes_s, point_s, distances_n)
        distances_n[chosen] = np.inf
        found, edge = within(scratch, reach(scratch, wanted, probes), wanted)
        if found < wanted:
            found, edge = within(scratch, np.inf, wanted)
        share_loss(scratch, found, edge, exponent, near_k, loss_k)
        return chosen

    return draw


def _write_distances(columns_dn: NDArray[Any], axes_s: IntArray, point_s: FloatArray, distances_n: FloatArray) -> None:
    for j in range(len(axes_s)):
        column, at = columns_dn[axes_s[j]], point_s[j]
        if j == 0:
            for i in range(len(column)):
                distances_n[i] = abs(column[i] - at)
        else:
            for i in range(len(column)):
                distances_n[i] += abs(column[i] - at)


def _select(values: FloatArray, rank: int) -> float:
    """Return the value of this rank (0 = least), by Hoare's selection; ``values`` are moved about."""
    low, high = 0, len(values) - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if rank <= j:
            high = j
        elif rank >= i:
            low = i
        else:
            break
    return float(values[rank])


def _reach(select: Callable[[FloatArray, int], float]) -> Callable[..., float]:
    def reach(scratch: Scratch, wanted: int, probes: int) -> float:
        """Return a distance that the neighbors are likely within: a few tell it, so that most samples drop out at once."""
        distances_n, spare_n = scratch.distances_n, scratch.spare_n
        step = len(distances_n) // probes
        if step < 8:
            return np.inf
        count = 0
        for i in range(0, len(distances_n), step):
            spare_n[count] = distances_n[i]
            count += 1
        expected = wanted / step
        rank = int(expected + 4.0 * np.sqrt(expected) + 4.0)
        return select(spare_n[:count], rank) if rank < count else np.inf

    return reach


def _within(select: Callable[[FloatArray, int], float]) -> Callable[..., tuple[int, float]]:
    def within(scratch: Scratch, limit: float, wanted: int) -> tuple[int, float]:
        """Return how many distances are up to the limit, and the ``wanted``-th of them (infinite if there is none)."""
        distances_n, near_n, spare_n = scratch
        found = 0
        for i in range(len(distances_n)):
            near_n[found] = i
            found += distances_n[i] <= limit
        if found < wanted:
            return found, np.inf
        for i in range(found):
            spare_n[i] = distances_n[near_n[i]]
        return found, select(spare_n[:found], wanted - 1)

    return within


def _share_loss(scratch: Scratch, found: int, edge: float, exponent: int, near_k: IntArray, loss_k: FloatArray) -> None:
    """Write the neighbors, of those at the edge the first, and what each loses."""
    distances_n, near_n = scratch.distances_n, scratch.near_n
    equals, least = len(near_k), np.inf
    for i in range(found):
        distance = distances_n[near_n[i]]
        equals -= distance < edge
        least = min(least, distance)
    count, total = 0, 0.0
    for i in range(found):
        distance = distances_n[near_n[i]]
        if distance > edge or (distance == edge and equals == 0):
            continue
        equals -= distance == edge
        near_k[count] = near_n[i]
        if least == 0.0:
            loss_k[count] = 1.0 if distance == 0.0 else 0.0
        else:
            loss_k[count] = (least / distance) ** exponent
        total += loss_k[count]
        count += 1
    for i in range(len(near_k)):
        loss_k[i] /= total
