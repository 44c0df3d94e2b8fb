"""Arrays cut anew, so that several readings go side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa


def regrouped(arrays: Iterable[pa.Array], sizes: Iterable[int]) -> Iterator[pa.Array]:
    """Yield the same values in arrays of these sizes, the last one of as many as are left.

    Args:
        arrays: all of one type.
        sizes: values of each array, above 0; no more are asked for than are needed.

    >>> [array.to_pylist() for array in regrouped([pa.array([1]), pa.array([2, 3, 4]), pa.array([5])], [2, 1, 9])]
    [[1, 2], [3], [4, 5]]
    """
    source = iter(arrays)
    waiting: list[pa.Array] = []
    held = 0
    for size in sizes:
        while held < size and (array := next(source, None)) is not None:
            if len(array):
                waiting.append(array)
                held += len(array)
        if not held:
            return
        whole = waiting[0] if len(waiting) == 1 else pa.concat_arrays(waiting)
        yield whole.slice(0, size)
        held = max(0, held - size)
        waiting = [whole.slice(size)] if held else []
