"""Columns of vectors, and a file of them beside a manifest: read by the manifest's rows, at once or block by block."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prune_cli.core.arrays import VectorBatch
from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress, silent
from prune_cli.core.runtime import format_size
from prune_cli.io.ids.columns import ID
from prune_cli.io.ids.rows import RowIds
from prune_cli.io.manifests.ledger import Ledger
from prune_cli.io.parquet.tables import ParquetSource, regrouped


def vector_type(field: pa.Field, where: str, option: str) -> pa.DataType:
    """Return the number type of a column of vectors.

    Raises:
        InputError: the column is no list of numbers.
    """
    kind = field.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not is_list or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        raise InputError(f"{where}: column '{field.name}' is {kind}, not a list of floats", f"name the vectors with {option}")
    return kind.value_type


def vector_blocks(
    arrays: Iterator[pa.Array], positions: np.ndarray, ledger: Ledger, dtype: type[np.floating], width: int = 0, directed: bool = False
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield positions (B,) and their vectors (B, D), not to be changed; rows without a good vector are in the ledger, and 0 or as they are.

    Args:
        arrays: the column, batch by batch.
        positions: (N,) position of each row, in the order of the column.
        ledger: receives the bad rows: no vector, another length than the first, NaN, infinite.
        dtype: of the arrays that are yielded.
        width: numbers of a vector; 0: as many as the first one has, and arrays before it are not yielded.
        directed: vectors of zeros, which have no direction, are bad, too.
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
        if directed:
            ledger.add_all(here[right & finite & ~block.any(axis=1)], "zero vector")
        yield here, block


def fill_vectors(
    blocks: Iterator[tuple[np.ndarray, np.ndarray]], rows: int, dtype: type[np.floating], absent: InputError, spool: Path | None = None
) -> np.ndarray:
    """Return (rows, D) vectors by position, 0 where there is none.

    Args:
        blocks: positions and their vectors.
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


class FeatureFile:
    """The vectors of a manifest's rows in another file (or the same), joined by id.

    Args:
        source: the file with the vectors.
        ids: the manifest's ids; each must be in the file, which may have more.
        id_column, embedding_column: names of the columns.
        directed: vectors of zeros are bad.
    Raises:
        InputError: an id that the file has not, or no column of vectors.
    """

    def __init__(
        self,
        source: ParquetSource,
        ids: RowIds,
        *,
        id_column: str = ID,
        embedding_column: str = "embedding",
        option: str = "--embedding-column",
        directed: bool = False,
    ) -> None:
        self.source, self._directed = source, directed
        self.column = embedding_column
        vector_type(source.require(embedding_column, option), source.location, option)
        rows = ids.rows_in(RowIds(source, id_column, ids.memory))
        self._absent = no_vectors(source.location, embedding_column)
        self._position = np.full(source.rows, -1, np.int64)  # of the manifest, for each row of the file
        self._position[slice(None) if rows is None else rows] = np.arange(len(ids))
        self.rows = len(ids)
        self.width = 0
        self.width = next((block.shape[1] for _, block in self._read(Ledger(), 1024)), 0)
        if not self.width:
            raise self._absent

    @property
    def nbytes(self) -> int:
        """Bytes of all vectors as float32."""
        return 4 * self.rows * self.width

    def load(self, ledger: Ledger, progress: Progress = silent) -> np.ndarray:
        """Return (N, D) float32 vectors of the manifest's rows; bad ones go to the ledger."""
        return fill_vectors(self._read(ledger, 8192, progress), self.rows, np.float32, self._absent)

    def check(self, ledger: Ledger, progress: Progress = silent) -> None:
        """List the bad vectors, keeping none in memory."""
        for _ in self._read(ledger, 8192, progress):
            pass

    def places(self, rows: int) -> list[np.ndarray]:
        """Return the positions in the manifest that each block of so many rows of the file has, as `blocks` yields them."""
        blocks = np.split(self._position, range(rows, len(self._position), rows))
        return [here[here >= 0] for here in blocks]

    def blocks(self, rows: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield positions in the manifest and their vectors, of so many rows of the file at a time."""
        return self._read(Ledger(), rows)

    def _read(self, ledger: Ledger, rows: int, progress: Progress = silent) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        wanted = self._position >= 0
        arrays = self._arrays(wanted, rows, progress)
        return vector_blocks(arrays, self._position[wanted], ledger, np.float32, self.width, self._directed)

    def _arrays(self, wanted: np.ndarray, rows: int, progress: Progress) -> Iterator[pa.Array]:
        start = 0
        for array in regrouped((b.column(0) for b in self.source.batches([self.column], rows)), itertools.repeat(rows)):
            here = wanted[start : start + len(array)]
            start += len(array)
            yield array if here.all() else array.filter(pa.array(here))
            progress("reading features", start, len(wanted))


class ProbabilityFile(FeatureFile):
    """The probabilities of a manifest's rows, as `FeatureFile` has their vectors; rows that do not sum to 1 are bad."""

    def _read(self, ledger: Ledger, rows: int, progress: Progress = silent) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for here, block in super()._read(ledger, rows, progress):
            check_probabilities(block, here, ledger, f"'{self.column}': ")
            yield here, block


class StreamedFeatures:
    """Features of some of a manifest's rows that stay in the file and are read anew for every pass.

    Args:
        file: where they are.
        positions: (M,) the manifest's rows that are meant, in the order that numbers them.
    """

    def __init__(self, file: FeatureFile, positions: np.ndarray) -> None:
        self._file, self._positions = file, positions
        self._number = np.full(file.rows, -1, np.int64)
        self._number[positions] = np.arange(len(positions))

    ordered = False

    @property
    def shape(self) -> tuple[int, int]:
        """(M, D)."""
        return len(self._positions), self._file.width

    def batches(self, rows: int, order_n: np.ndarray) -> list[VectorBatch]:
        """Return batches of so many rows of the file, in its order."""
        reader = _Reader(self._file, rows)
        return [self._batch(reader, number, here) for number, here in enumerate(self._file.places(rows))]

    def _batch(self, reader: _Reader, number: int, positions: np.ndarray) -> VectorBatch:
        numbers = self._number[positions]
        meant = numbers >= 0
        if meant.all():
            return VectorBatch(numbers, lambda: reader.block(number))
        return VectorBatch(numbers[meant], lambda: reader.block(number)[meant])

    def array(self) -> np.ndarray:
        """Refuse: they are in the file because they do not fit.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"the features take {format_size(4 * len(self._positions) * self._file.width)} and this method needs them in memory",
            "use --method window, which reads them block by block, or raise --memory-limit",
        )

    def take(self, positions: np.ndarray) -> StreamedFeatures:
        """Return the features of some of these, numbered as the positions are."""
        return StreamedFeatures(self._file, self._positions[positions])


class _Reader:
    """Blocks of a file by their number: of those behind it, it reads on, and of others from the beginning; it holds the last one."""

    def __init__(self, file: FeatureFile, rows: int) -> None:
        self._file, self._rows = file, rows
        self._number, self._vectors = -1, np.zeros((0, file.width), np.float32)
        self._blocks: Iterator[tuple[np.ndarray, np.ndarray]] = iter(())

    def block(self, number: int) -> np.ndarray:
        """Return the vectors of a block."""
        if number < self._number or self._number < 0:
            self._number, self._blocks = -1, self._file.blocks(self._rows)
        while self._number < number:
            _, self._vectors = next(self._blocks)
            self._number += 1
        return self._vectors
