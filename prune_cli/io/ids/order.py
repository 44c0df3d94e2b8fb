"""The order of ids: by eight of their bytes at a time, so that no id is held, and range by range where memory is short."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prune_cli.core.sorting import position_type, sort_within_runs

Read = Callable[[], Iterable[pa.Array]]
"""Reads ids from the first to the last, as often as it is called: arrays of strings or int64, without nulls."""

SORT_BYTES, RANGE_BYTES = 24, 16
"""Memory of a row while it is sorted, and what a row of a range takes more beside twice its id: measured upper bounds."""

_WIDTH = 8
_SAMPLES = 1 << 16


def order_of(read: Read, rows: int, memory: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return positions by ascending id, and at which places of that order an id is another than the one before.

    Strings go by their bytes, as Arrow and Python order them. The bytes that all have in common are skipped; the next eight are a
    key, and only ids that are equal so far are told apart by the eight after them, which the file is read again for. Where that takes
    more than the memory, the ids are cut in ranges of about equal size, and each range is read and sorted by itself.

    Args:
        read: see `Read`.
        memory: bytes that it may take beside what it returns; None for as many as it wants.
    Returns:
        (N,) positions, int32 where that is enough; (N,) bool, False where an id stands again. Of equal ids any may come first.
    Cost:
        N log N, and a reading for every eight bytes until all ids differ, or for every range.
    Example:
        >>> order, first = order_of(lambda: [pa.array(["b", "a"]), pa.array(["b", "aa"])], 4)
        >>> order[:2].tolist(), sorted(order[2:].tolist()), first.tolist()
        ([1, 3], [0, 2], [True, True, True, False])
    """
    parts = parts_for(rows * SORT_BYTES, memory)
    if parts > 1:
        return _order_by_ranges(read, rows, parts_for(rows * (SORT_BYTES + RANGE_BYTES + 2 * held_bytes(read)), memory))
    order_n = np.arange(rows, dtype=position_type(rows))
    first_n = np.zeros(rows, bool)
    first_n[:1] = True
    if rows:
        for keys_n in keys_of(read, rows):
            sort_within_runs(order_n, first_n, keys_n)
            if first_n.all():
                break
    return order_n, first_n


def parts_for(size: int, memory: int | None) -> int:
    """Return in how many parts something is done that takes so many bytes at once: 1 where it fits."""
    return 1 if memory is None else max(1, -(-size // max(1, memory)))


def held_bytes(read: Read) -> int:
    """Return about how many bytes an id takes with its position, judged by the first ones."""
    first = next((array for array in read() if len(array)), None)
    return _WIDTH + (-(-first.nbytes // len(first)) if first is not None else 0)


def id_ranges(read: Read, rows: int, parts: int) -> list[tuple[object | None, object | None]]:
    """Return the bounds of so many ranges of about equal size, or fewer, that all ids are in: see `in_range`."""
    step = -(-rows // _SAMPLES)
    sample = [array.take(pa.array(np.arange(-at.start % step, len(array), step))) for at, array in _placed(read())]
    found = pa.concat_arrays(sample)
    found = found.take(pc.sort_indices(found))
    bounds = list(found.take(pa.array(np.arange(1, parts) * len(found) // parts)).unique())
    return list(zip([None, *bounds], [*bounds, None], strict=True))


def in_range(read: Read, low: object | None, high: object | None) -> tuple[np.ndarray, list[pa.Array]]:
    """Return the positions of the ids from one bound to before the next, and these ids; None is no bound."""
    positions, held = [], []
    for at, array in _placed(read()):
        inside = np.ones(len(array), bool)
        if low is not None:
            inside &= pc.greater_equal(array, low).to_numpy(zero_copy_only=False)
        if high is not None:
            inside &= pc.less(array, high).to_numpy(zero_copy_only=False)
        if inside.any():
            positions.append((np.flatnonzero(inside) + at.start).astype(position_type(at.stop)))
            held.append(array.filter(pa.array(inside)))
    return np.concatenate([np.zeros(0, np.int32), *positions]), held


def _order_by_ranges(read: Read, rows: int, parts: int) -> tuple[np.ndarray, np.ndarray]:
    order_n, first_n = np.empty(rows, position_type(rows)), np.empty(rows, bool)
    done = 0
    for low, high in id_ranges(read, rows, parts):
        positions, held = in_range(read, low, high)
        here = slice(done, done + len(positions))
        order, first_n[here] = order_of(lambda held=held: held, len(positions))  # type: ignore[misc]
        order_n[here] = positions[order]
        done = here.stop
    return order_n, first_n


def keys_of(read: Read, rows: int) -> Iterator[np.ndarray]:
    """Yield (N,) keys that, one after the other, order the ids and are all equal for equal ids alone.

    Args:
        read: see `Read`.
    Yields:
        The same array every time, with other keys: int64 of integers, uint64 of strings.
    """
    first = next((array for array in read() if len(array)), None)
    if first is None or pa.types.is_integer(first.type):
        keys_n = np.empty(rows, np.int64)
        for at, array in _placed(read()):
            keys_n[at] = array.to_numpy(zero_copy_only=False)
        yield keys_n
        return
    shared = _common_prefix(*_ends(first))
    keys_n = np.empty(rows, np.uint64)
    longest = 0
    while True:
        found = shared
        for at, array in _placed(read()):
            found = _common_prefix(found, *_ends(array))
            if len(found) < len(shared):
                break
            keys_n[at] = _words(array, len(shared))
            longest = max(longest, int(_lengths(array).max()))
        else:
            break
        shared, longest = found, 0
    yield keys_n
    for skipped in range(len(shared) + _WIDTH, longest, _WIDTH):
        for at, array in _placed(read()):
            keys_n[at] = _words(array, skipped)
        yield keys_n
    # What is equal now differs at most by bytes 0 at the end: the shorter comes first.
    for at, array in _placed(read()):
        keys_n[at] = _lengths(array)
    yield keys_n


def same_ids(ours: Read, theirs: Read, rows_n: np.ndarray) -> bool:
    """Return whether every id is the one in a row of another file.

    Args:
        ours: (N,) ids.
        theirs: ids of the same type.
        rows_n: (N,) the row of the other file that each is said to be.
    Cost:
        Both files are read once, and once more for every eight bytes after those that all ids have in common.
    """
    there_n = np.empty(len(rows_n), np.int64)
    longest, shared, texts = 0, b"", True
    for at, array in _placed(theirs()):
        texts = not pa.types.is_integer(array.type)
        if not texts:
            there_n[at] = array.to_numpy(zero_copy_only=False)
            continue
        there_n[at] = _lengths(array)
        shared = _common_prefix(*([shared] if at.start else []), *_ends(array))
        longest = max(longest, int(there_n[at].max()))
    for at, array in _placed(ours()):
        here = _lengths(array) if texts else array.to_numpy(zero_copy_only=False)
        if not np.array_equal(here, there_n[rows_n[at]]):
            return False
        if texts and _common_prefix(shared, *_ends(array)) != shared:
            return False
    words_n = there_n.view(np.uint64)
    for skipped in range(len(shared), longest, _WIDTH):
        for at, array in _placed(theirs()):
            words_n[at] = _words(array, skipped)
        if not all(np.array_equal(_words(array, skipped), words_n[rows_n[at]]) for at, array in _placed(ours())):
            return False
    return True


def _placed(arrays: Iterable[pa.Array]) -> Iterator[tuple[slice, pa.Array]]:
    done = 0
    for array in arrays:
        if len(array):
            yield slice(done, done + len(array)), array
            done += len(array)


def _ends(array: pa.Array) -> tuple[bytes, bytes]:
    ends = pc.min_max(array.cast(pa.binary()))
    return ends["min"].as_py(), ends["max"].as_py()


def _common_prefix(*texts: bytes) -> bytes:
    low, high = min(texts), max(texts)
    length = next((at for at, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return low[:length]


def _lengths(array: pa.Array) -> np.ndarray:
    """Return the bytes of each string."""
    lengths: np.ndarray = pc.binary_length(array).to_numpy(zero_copy_only=False)
    return lengths


def _words(array: pa.Array, skipped: int) -> np.ndarray:
    """Return the keys of strings: their eight bytes after those that are skipped, filled with 0, as one number."""
    _, offsets_buffer, data = array.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[array.offset : array.offset + len(array) + 1].astype(np.int64)
    low, high = int(offsets[0]), int(offsets[-1])
    content = np.zeros(high - low + _WIDTH, np.uint8)
    if high > low:
        content[: high - low] = np.frombuffer(data, np.uint8)[low:high]
    # Eight bytes from every place on; places are no multiples of eight.
    words = np.ndarray((high - low + 1,), ">u8", content, strides=(1,))
    left = np.clip(offsets[1:] - offsets[:-1] - skipped, 0, _WIDTH)
    keys = words[np.minimum(offsets[:-1] - low + skipped, high - low)].astype(np.uint64)
    spare = ((_WIDTH - left) * 8).astype(np.uint64)
    found: np.ndarray = (keys >> spare) << spare  # a shift by 64 leaves 0, in NumPy on every machine
    return found
