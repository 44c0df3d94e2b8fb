"""Columns of vectors: a list of floats a row, as an array, with what is wrong with a row told apart from what is right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prune_cli.core.errors import InputError
from prune_cli.io.manifests.ledger import Ledger


def vector_type(field: pa.Field, where: str, option: str) -> pa.DataType:
    """Return the number type of a column of vectors.

    Raises:
        InputError: the column is no list of numbers.
    """
    kind = field.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not is_list or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        raise InputError(
            f"{where}: column '{field.name}' is {kind}, not a list of floats", f"name the vectors with {option}"
        )
    return kind.value_type


def vector_blocks(
    arrays: Iterator[pa.Array], positions: np.ndarray, ledger: Ledger, dtype: type[np.floating], width: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield positions (B,) and their vectors (B, D), not to be changed; rows without a good vector are in the ledger, and 0 or as they are.

    Args:
        arrays: the column, batch by batch.
        positions: (N,) position of each row, in the order of the column.
        ledger: receives the bad rows: no vector, another length than the first, NaN, infinite, zero.
        dtype: of the arrays that are yielded.
        width: numbers of a vector; 0: as many as the first one has, and arrays before it are not yielded.
    """
    done = 0
    for array in arrays:
        here = positions[done : done + len(array)]
        done += len(array)
        lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
        ledger.add_all(here[lengths == 0], "no vector")
        if not width:
            if not lengths.any():
                continue
            width = int(lengths[lengths > 0][0])
        right = lengths == width
        numbers = (array if right.all() else array.filter(pa.array(right))).flatten().to_numpy(zero_copy_only=False)
        block = np.asarray(numbers.reshape(-1, width), dtype)
        if not right.all():
            found, block = block, np.zeros((len(here), width), dtype)
            block[right] = found
        for row in np.flatnonzero(~right & (lengths > 0)):
            ledger.add(int(here[row]), f"a vector of {lengths[row]} numbers, {width} wanted")
        finite = np.isfinite(block).all(axis=1)
        ledger.add_all(here[~finite], "NaN or infinite vector")
        ledger.add_all(here[right & finite & ~block.any(axis=1)], "zero vector")
        yield here, block


def fill_vectors(
    blocks: Iterator[tuple[np.ndarray, np.ndarray]],
    rows: int,
    dtype: type[np.floating],
    absent: InputError,
    spool: Path | None = None,
) -> np.ndarray:
    """Return (rows, D) vectors by position, 0 where there is none.

    Args:
        blocks: positions and their vectors.
        rows, dtype: of the array.
        absent: see `no_vectors`, raised where no block comes.
        spool: a file that the array is memory-mapped from, for vectors that do not fit into memory; None: it is in memory.
    """
    vectors: np.ndarray | None = None
    for here, block in blocks:
        if vectors is None:
            vectors = _allocate((rows, block.shape[1]), dtype, spool)
        vectors[here] = block
    if vectors is None:
        raise absent
    return vectors


def no_vectors(where: str, column: str) -> InputError:
    """Return the error of a column in which no row has a vector."""
    return InputError(f"{where}: no row has a vector in '{column}'", "check the column")


def check_probabilities(probs_bc: np.ndarray, positions: np.ndarray, ledger: Ledger, prefix: str = "") -> None:
    """List rows that are no probabilities: outside 0 to 1, or with a sum that is not 1 to 1e-3.

    Args:
        probs_bc: (B, C) numbers.
        positions: (B,) of the rows.
        ledger: receives the bad ones.
        prefix: of the reason.
    """
    outside = ((probs_bc < -1e-6) | (probs_bc > 1 + 1e-6)).any(axis=1)
    ledger.add_all(positions[outside], f"{prefix}a probability below 0 or above 1")
    wrong = ~outside & ~(np.abs(probs_bc.sum(axis=1, dtype=np.float64) - 1) <= 1e-3)
    ledger.add_all(positions[wrong], f"{prefix}probabilities that do not sum to 1")


def _allocate(shape: tuple[int, int], dtype: type[np.floating], spool: Path | None) -> np.ndarray:
    if spool is None:
        return np.zeros(shape, dtype)
    spool.parent.mkdir(parents=True, exist_ok=True)
    return np.lib.format.open_memmap(spool, mode="w+", dtype=dtype, shape=shape)
