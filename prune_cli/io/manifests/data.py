"""Data manifests: which rows there are, their labels, and their images or embeddings as one array."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress, silent
from prune_cli.io.ids.columns import ID, Labels, canonical_order, read_ids, read_labels
from prune_cli.io.images.column import decode_images, measure_images, verify_images
from prune_cli.io.images.decoding import ImageSettings
from prune_cli.io.images.spool import SpooledInputs, spool_images
from prune_cli.io.manifests.features import check_probabilities, fill_vectors, no_vectors, vector_blocks, vector_type
from prune_cli.io.manifests.ledger import ErrorAllowance, Ledger
from prune_cli.io.parquet.tables import ParquetSource

InputKind = Literal["image", "embedding"]
PROB = "prob"
_IMAGE_TYPES = (pa.binary(), pa.large_binary(), pa.string(), pa.large_string())
"""Of images, beside a struct."""


@dataclass(frozen=True)
class DataOptions:
    """How a data manifest is read: the options that mean the same in every command.

    Args:
        location: a Parquet file, a folder of them, or ``-``.
        id_column, label_column, image_column, embedding_column, true_label_column: names of the columns.
        input: ``image``, ``embedding``, or None for the image where both are there.
        root: folder that image paths are relative to; None for the folder of the file.
        split: only rows whose ``split`` column says so.
        image_size: (height, width) to resize to, or None: all images must then be of one size.
        max_pixels: images with more, by their header, are bad rows.
        max_errors: how many bad rows the run may have.
    """

    location: str
    id_column: str = ID
    label_column: str = "label"
    image_column: str = "image"
    embedding_column: str = "embedding"
    true_label_column: str = "true_label"
    input: InputKind | None = None
    root: Path | None = None
    split: str | None = None
    image_size: tuple[int, int] | None = None
    max_pixels: int = 100_000_000
    max_errors: ErrorAllowance = field(default_factory=ErrorAllowance)

    def identity(self) -> dict[str, object]:
        """Return the options that change what is read, for provenance: no place of this machine among them."""
        return {
            "input": self.input,
            "split": self.split,
            "image_size": list(self.image_size) if self.image_size else None,
            "max_pixels": self.max_pixels,
            "columns": [self.id_column, self.label_column, self.image_column, self.embedding_column],
        }


class Dataset:
    """The rows of a data manifest after ``--split``: ids and labels at once, images and embeddings when asked for.

    Positions are those among the rows kept by ``--split``, in the order of the files.

    Raises:
        InputError: see `ParquetSource`, `read_ids`, `read_labels`; no row; no column with an input.
    """

    def __init__(self, options: DataOptions) -> None:
        self.options = options
        self.source = ParquetSource(options.location)
        ids, self.ids_made_up = read_ids(self.source, options.id_column)
        self._split_mask = self._read_split()
        if self._split_mask is not None:
            ids = ids.filter(pa.array(self._split_mask))
        self.ids: pa.Array = ids
        if not len(ids):
            raise InputError(f"{options.location} has no rows", "check the file")

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def order_n(self) -> np.ndarray:
        """(N,) int64 positions by ascending id."""
        return canonical_order(self.ids)

    @cached_property
    def labels(self) -> Labels:
        """The given labels."""
        return self._read_labels(self.options.label_column, "--label-column")

    @cached_property
    def true_labels(self) -> Labels | None:
        """The known true labels, where the file has them: for evaluation alone."""
        if self.options.true_label_column not in self.source.schema.names:
            return None
        return self._read_labels(self.options.true_label_column, "--true-label-column")

    @cached_property
    def kind(self) -> InputKind:
        """Whether a sample is an image or an embedding: as asked, else by the columns there are."""
        options, names = self.options, self.source.schema.names
        if options.input is not None:
            column = options.image_column if options.input == "image" else options.embedding_column
            self.source.require(column, f"--{options.input}-column")
            return options.input
        if options.image_column in names:
            return "image"
        if options.embedding_column in names:
            return "embedding"
        found = ", ".join(names)
        raise InputError(
            f"{options.location}: no column '{options.image_column}' and no '{options.embedding_column}'; it has {found}",
            "name one with --image-column or --embedding-column",
        )

    def embedding_bytes(self) -> int:
        """Return how many bytes an embedding has, as it is stored; 0 where the first 100 rows have none."""
        head = np.arange(min(len(self), 100))
        return int(self._load_vectors(head, Ledger())[0].nbytes)

    def input_width(self) -> int:
        """Return how many numbers a sample has, judged by the first readable row; 0 where the first 100 are all bad."""
        head = np.arange(min(len(self), 100))
        if self.kind == "image":
            measured = measure_images(lambda: self.image_batches(head), self.image_settings())
            return int(np.prod(measured)) if measured is not None else 0
        return int(self._load_vectors(head, Ledger()).shape[1])

    def load_inputs(
        self,
        ledger: Ledger,
        *,
        rows: np.ndarray | None = None,
        workers: int = 1,
        channels: Literal["auto", 1, 3] = "auto",
        as_float32: bool = False,
        spool: Path | None = None,
        progress: Progress = silent,
    ) -> np.ndarray:
        """Return the inputs of the rows as one array, listing bad ones in the ledger.

        Args:
            ledger: receives unreadable images, and NaN, infinite or missing vectors, by position.
            rows: (M,) int64 ascending positions, or None for all.
            workers: decoding processes.
            channels: 1, 3, or what the images have.
            as_float32: whether embeddings stored as float64 come as float32.
            spool: a file that embeddings are memory-mapped from, for those that do not fit into memory.
        Returns:
            (M, H, W, C) uint8 for images, (M, D) float32 (float64 where stored so) for embeddings; bad rows hold
            zeros, see `drop_rows`.
        """
        positions = np.arange(len(self)) if rows is None else rows
        if self.kind == "embedding":
            return self._load_vectors(positions, ledger, progress, as_float32, spool)
        decoded = decode_images(
            lambda: self.image_batches(positions),
            len(positions),
            self.image_settings(channels),
            workers=workers,
            progress=progress,
            name_row=lambda row: self._row_name(positions, row),
        )
        _list_bad(ledger, decoded.bad, positions)
        return decoded.images_nhwc

    def spool_inputs(
        self,
        ledger: Ledger,
        folder: Path,
        *,
        rows: np.ndarray,
        workers: int = 1,
        channels: Literal["auto", 1, 3] = "auto",
        progress: Progress = silent,
    ) -> SpooledInputs:
        """Return the images of the rows as a source that decodes them batch by batch: for data that does not fit into memory.

        Args:
            ledger: receives unreadable images, for which each is decoded once.
            folder: where the encoded images are spooled; it must outlive the source.
            rows: (M,) int64 ascending positions.
            workers: decoding processes.
            channels: of the images; ``auto``: 1 where all are grey.
        """
        images, bad = spool_images(
            lambda: self.image_batches(rows),
            len(rows),
            self.image_settings(channels),
            folder,
            workers=workers,
            progress=progress,
            name_row=lambda row: self._row_name(rows, row),
        )
        _list_bad(ledger, bad, rows)
        return SpooledInputs(images, np.flatnonzero(ledger.good(len(self))[rows]))

    def _row_name(self, rows: np.ndarray, row: int) -> str:
        return f"'{self.ids[int(rows[row])].as_py()}'"

    def verify_inputs(self, ledger: Ledger, *, workers: int = 1, progress: Progress = silent) -> tuple[int, ...] | None:
        """Return the shape of an input after every row was read and none kept; None where images differ in size."""
        everything = np.arange(len(self))
        if self.kind == "embedding":
            return self._load_vectors(everything, ledger, progress).shape[1:]
        batches = lambda: self.image_batches(everything)  # noqa: E731
        bad, shape = verify_images(batches, len(self), self.image_settings(), workers=workers, progress=progress)
        _list_bad(ledger, bad, everything)
        return shape

    def image_settings(self, channels: Literal["auto", 1, 3] = "auto") -> ImageSettings:
        """Return how the images of this dataset are decoded."""
        root = self.options.root if self.options.root is not None else self.source.folder
        return ImageSettings(max_pixels=self.options.max_pixels, root=root, size=self.options.image_size, channels=channels)

    def image_batches(self, positions: np.ndarray) -> Iterator[pa.Array]:
        """Yield the image column of some rows, by row group."""
        field = self.source.require(self.options.image_column, "--image-column")
        if not pa.types.is_struct(field.type) and field.type not in _IMAGE_TYPES:
            raise InputError(
                f"{self.options.location}: column '{field.name}' is {field.type}, not struct<bytes, path>, binary or string",
                "name the images with --image-column",
            )
        yield from (batch.column(0) for _, batch in self.batches([field.name], positions, 2048))

    def load_embeddings(self, ledger: Ledger, *, spool: Path | None = None, progress: Progress = silent) -> np.ndarray:
        """Return the embedding column of all rows, (N, D), whatever the input is; bad rows go to the ledger.

        ``spool`` is a file that the array is memory-mapped from, for one that does not fit into memory.
        """
        return self._load_vectors(np.arange(len(self)), ledger, progress, spool=spool)

    def load_probabilities(self, ledger: Ledger, *, rows: np.ndarray | None = None, progress: Progress = silent) -> np.ndarray:
        """Return the ``prob`` column of the rows, (M, C) float64, a column for each class of the labels in their order.

        Args:
            ledger: receives rows that are no probabilities: outside 0 to 1, or with a sum that is not 1 to 1e-3.
            rows: (M,) int64 ascending positions, or None for all.
        Raises:
            InputError: as many numbers as there are no classes.
        """
        positions = np.arange(len(self)) if rows is None else rows
        probs_nc = self._load_vectors(positions, ledger, progress, column=PROB).astype(np.float64, copy=False)
        n_classes = len(self.labels.classes)
        if probs_nc.shape[1] != n_classes:
            raise InputError(
                f"{self.options.location}: '{PROB}' has {probs_nc.shape[1]} numbers a row and the labels have {n_classes} classes",
                "give one probability a class, in the order of the classes",
            )
        check_probabilities(probs_nc, positions, ledger)
        return probs_nc

    def _load_vectors(
        self,
        positions: np.ndarray,
        ledger: Ledger,
        progress: Progress = silent,
        as_float32: bool = False,
        spool: Path | None = None,
        column: str | None = None,
    ) -> np.ndarray:
        """Return vectors of some rows, of the column of embeddings where no other is named."""
        option = "--embedding-column" if column is None else f"a column '{column}'"
        field = self.source.require(column or self.options.embedding_column, option)
        stored = vector_type(field, self.options.location, option)
        dtype = np.float64 if pa.types.is_float64(stored) and not as_float32 else np.float32
        arrays = (batch.column(0) for _, batch in self.batches([field.name], positions, 8192))
        number = np.full(len(self), -1, np.int64)
        number[positions] = np.arange(len(positions))

        def numbered() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for here, block in vector_blocks(arrays, positions, ledger, dtype):
                yield number[here], block
                progress("reading vectors", int(number[here[-1]]) + 1, len(positions))

        return fill_vectors(numbered(), len(positions), dtype, no_vectors(self.options.location, field.name), spool)

    def batches(self, columns: Sequence[str], positions: np.ndarray, rows: int) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """Yield some positions, ascending, and their rows with these columns, from so many rows of the files at a time."""
        in_file = positions if self._split_mask is None else np.flatnonzero(self._split_mask)[positions]
        start = done = 0
        with contextlib.closing(self.source.batches(columns, rows)) as batches:
            for batch in batches:
                until = int(np.searchsorted(in_file, start + len(batch)))
                if until - done == len(batch):
                    yield positions[done:until], batch
                elif until > done:
                    yield positions[done:until], batch.take(pa.array(in_file[done:until] - start))
                start, done = start + len(batch), until
                if done == len(in_file):
                    return

    def _read_split(self) -> np.ndarray | None:
        split = self.options.split
        if split is None:
            return None
        self.source.require("split")
        column = self.source.read(["split"]).column(0).cast(pa.string())
        mask: np.ndarray = pc.equal(column, split).fill_null(False).to_numpy()
        if not mask.any():
            there = ", ".join(str(v) for v in pc.unique(column).to_pylist()[:10])
            raise InputError(f"{self.options.location}: no row of --split {split}; it has {there}", "name a split that is there")
        return mask

    def _read_labels(self, column: str, option: str) -> Labels:
        labels = read_labels(self.source, column, option)
        return labels if self._split_mask is None else labels.take(np.flatnonzero(self._split_mask))


def _list_bad(ledger: Ledger, bad: Iterable[tuple[int, str | None, str]], positions: np.ndarray) -> None:
    """List images that were found bad, by their place among some positions."""
    for row, path, reason in bad:
        ledger.add(int(positions[row]), reason, path)
