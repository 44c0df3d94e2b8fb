"""Dynamics records: what training said of every sample, written pass by pass and read as a stream of passes."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prune_cli.core.errors import InputError
from prune_cli.core.measures import COLUMNS, CURES, PROB_CHANGE, Mode
from prune_cli.io.ids.columns import ID, Labels, locate, some
from prune_cli.io.parquet.provenance import Provenance
from prune_cli.io.parquet.tables import ROW_GROUP_ROWS, ParquetSource, regrouped, write_batches
from prune_cli.io.stores.atomic import atomic_file

DYNAMICS = "dynamics.parquet"
_KEYS = (("run", pa.int64()), ("epoch", pa.int64()), ("mode", pa.string()))


class RecordParts:
    """A record that grows: one file a pass and mode, each whole or not at all, in a folder.

    Args:
        folder: made when the first part is written.
        ids, labels: of the M samples, in the order of the arrays that come.
        run: number of the run, from 0.
    """

    def __init__(self, folder: Path, ids: pa.Array, labels: Labels, run: int = 0) -> None:
        self.folder = folder
        self._ids, self._labels, self._run = ids, labels.values(), run
        kinds = [(name, pa.bool_() if name == "correct" else pa.float32()) for name in COLUMNS]
        self.schema = pa.schema([(ID, ids.type), ("label", labels.type), *_KEYS, *kinds])

    def on_record(self, mode: Mode, epoch: int, columns: Mapping[str, np.ndarray]) -> None:
        """Write one pass of one mode, over one that an interrupted run left."""
        self.folder.mkdir(parents=True, exist_ok=True)
        m = len(self._ids)
        arrays = [self._ids, self._labels, *(pa.repeat(value, m) for value in (self._run, epoch, mode))]
        for name in COLUMNS:
            kind = self.schema.field(name).type
            if name not in columns:
                arrays.append(pa.nulls(m, kind))
            else:
                arrays.append(pa.array(columns[name] > 0.5 if name == "correct" else columns[name], kind))
        table = pa.table(arrays, schema=self.schema)
        with atomic_file(self.folder / f"{epoch:06d}-{mode}.parquet") as file:
            pq.write_table(table, file, compression="zstd", row_group_size=ROW_GROUP_ROWS)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows of all passes, pass by pass, training before eval."""
        paths = sorted(self.folder.glob("*.parquet"), key=lambda p: (p.name[:6], p.stem.endswith("eval")))
        for path in paths:
            with contextlib.closing(pq.ParquetFile(path)) as file:
                yield from file.iter_batches(ROW_GROUP_ROWS)

    def write(self, output: str, provenance: Provenance) -> None:
        """Write all of it as one file and remove the parts."""
        write_batches(output, self.schema, self.batches(), provenance)
        shutil.rmtree(self.folder, ignore_errors=True)


def join_records(paths: list[Path], output: str, provenance: Provenance) -> None:
    """Write the records of several runs as one file, run after run, a row group at a time."""
    files = [pq.ParquetFile(path) for path in paths]
    batches = (batch for file in files for batch in file.iter_batches(ROW_GROUP_ROWS))
    write_batches(output, files[0].schema_arrow.remove_metadata(), batches, provenance)


@dataclass(frozen=True)
class _Pass:
    """One pass of one mode in the file: its rows, and the sample of each where they stand in another order."""

    run: int
    mode: str
    epoch: int
    start: int
    order_n: np.ndarray | None


class RecordFile:
    """A dynamics record in Parquet: which passes it has, checked once; its columns are streamed when asked for.

    Rows of a pass stand together, runs and passes in rising order, each with every sample once; the order of the
    samples within a pass is free. ``run`` and ``mode`` may be missing: then it is one run, of training.

    Raises:
        InputError: a missing column, passes that are missing, doubled or out of order, a pass that lacks samples.
    """

    def __init__(self, source: ParquetSource) -> None:
        self.source = source
        source.require(ID)
        source.require("epoch")
        self.ids, self._passes = self._index()
        self._check_epochs()

    @property
    def runs(self) -> int:
        """Number of runs."""
        return len({one.run for one in self._passes})

    def label_values(self) -> pa.Array | None:
        """Return the given labels as they are stored, where the file has them."""
        if "label" not in self.source.schema.names:
            return None
        with contextlib.closing(self.source.batches(["label"], ROW_GROUP_ROWS)) as batches:
            return next(regrouped((batch.column(0) for batch in batches), [len(self.ids)]))

    def of_run(self, number: int) -> RunRecord:
        """Return the record of the run of that number, counted from 0 in the order of the file."""
        run = sorted({one.run for one in self._passes})[number]
        return RunRecord(self, [one for one in self._passes if one.run == run])

    def read(self, column: str, passes: list[_Pass]) -> Iterator[np.ndarray]:
        """Yield (N,) float32 of each one, in the order of the file, reading no further than the last.

        Raises:
            InputError: there is no such column, or nothing in it.
        """
        self.source.require(column)
        n = len(self.ids)
        wanted = {one.start // n: one for one in passes}
        batches = self.source.batches([column], ROW_GROUP_ROWS)
        arrays = regrouped((batch.column(0).cast(pa.float32()) for batch in batches), itertools.repeat(n))
        for number, array in zip(range(max(wanted, default=-1) + 1), arrays, strict=False):
            if number in wanted:
                values, order_n = array.to_numpy(zero_copy_only=False), wanted[number].order_n
                placed = np.empty(n, np.float32)
                placed[slice(None) if order_n is None else order_n] = values
                yield placed

    def _index(self) -> tuple[pa.Array, list[_Pass]]:
        names = [c for c in ("run", "epoch", "mode") if c in self.source.schema.names]
        key: tuple[Any, ...] | None = None
        passes: list[_Pass] = []
        parts: list[pa.Array] = []
        ids: pa.Array | None = None
        row = start = 0

        def close() -> None:
            nonlocal ids, parts
            if key is None:
                return
            here = pa.concat_arrays(parts)
            order_n = None
            where = f"epoch {key[1]} of run {key[0]} ({key[2]})"
            if ids is None:
                ids = here
            elif not here.equals(ids):
                order_n = self._placed(here, ids, where)
            passes.append(_Pass(int(key[0]), str(key[2]), int(key[1]), start, order_n))
            parts = []

        for batch in self.source.batches([ID, *names], ROW_GROUP_ROWS):
            columns = [
                batch.column(name).to_numpy(zero_copy_only=False) if name in names else np.full(len(batch), default)
                for name, default in (("run", 0), ("epoch", 0), ("mode", "train"))
            ]
            changes = np.zeros(len(batch), bool)
            changes[:1] = True
            for column in columns:
                changes[1:] |= column[1:] != column[:-1]
            edges = [*np.flatnonzero(changes).tolist(), len(batch)]
            if len(edges) > 1000 and len(edges) > len(batch) // 2:
                raise self._unsorted()
            for first, end in itertools.pairwise(edges):
                here = tuple(column[first] for column in columns)
                if here != key:
                    close()
                    key, start = here, row + first
                parts.append(batch.column(0).slice(first, end - first))
            row += len(batch)
        close()
        if ids is None:
            raise InputError(f"{self.source.location} has no rows", "check the file")
        return ids, passes

    def _placed(self, here: pa.Array, ids: pa.Array, where: str) -> np.ndarray:
        if len(here) != len(ids):
            odd = set(ids.to_pylist()) ^ set(here.to_pylist())
            raise InputError(
                f"{self.source.location}: {where} has {len(here):,} samples and the first has {len(ids):,}; "
                f"they differ in {some(pa.array(sorted(odd)))}"
                if odd
                else f"{self.source.location}: {where} has {len(here):,} rows for {len(ids):,} samples",
                "give every sample one row in every epoch",
            )
        if not pc.any(pc.is_in(here, ids)).as_py():
            raise self._unsorted()
        order_n = locate(here, ids, f"{self.source.location}, {where}", "its first epoch")
        if len(np.unique(order_n)) != len(order_n):
            raise InputError(f"{self.source.location}: {where} has a sample twice", "give each one row an epoch")
        return order_n

    def _check_epochs(self) -> None:
        seen: dict[tuple[int, str], list[int]] = {}
        for one in self._passes:
            if one.mode not in {"train", "eval"}:
                raise InputError(f"{self.source.location}: mode '{one.mode}' is neither train nor eval", "correct it")
            epochs = seen.setdefault((one.run, one.mode), [])
            if epochs and one.epoch <= epochs[-1]:
                raise self._unsorted()
            epochs.append(one.epoch)
        for (run, mode), epochs in seen.items():
            missing = sorted(set(range(1, epochs[-1] + 1)) - set(epochs)) if mode == "train" else []
            if missing or epochs[0] < (1 if mode == "train" else 0):
                shown = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
                raise InputError(
                    f"{self.source.location}: run {run} lacks the training of epoch {shown}; it goes to {epochs[-1]}",
                    "make the record again, or leave out the epochs after the gap",
                )
        counts = {run: seen.get((run, "train"), [0])[-1] for run, _ in seen}
        if len(set(counts.values())) > 1:
            raise InputError(f"{self.source.location}: its runs have different numbers of epochs: {counts}", "split it")

    def _unsorted(self) -> InputError:
        return InputError(
            f"{self.source.location}: the rows of an epoch do not stand together, epochs rising", "sort the file by run and epoch"
        )


class RunRecord:
    """The record of one run, as `prune_cli.methods.scores.record.records.Record` wants it."""

    def __init__(self, file: RecordFile, passes: list[_Pass]) -> None:
        self._file = file
        self._train = [one for one in passes if one.mode == "train"]
        self._eval = {one.epoch: one for one in passes if one.mode == "eval"}

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return len(self._file.ids)

    @property
    def n_epochs(self) -> int:
        """Passes of training."""
        return len(self._train)

    @property
    def eval_epochs(self) -> tuple[int, ...]:
        """Passes after which there was a look in eval mode."""
        return tuple(sorted(self._eval))

    def training(self, column: str) -> Iterator[np.ndarray]:
        """Yield one column of each pass of training.

        Raises:
            InputError: there is no such column, or a null where there should be a number.
        """
        for number, values in enumerate(self._file.read(column, self._train), start=1):
            if number > 1 or column != PROB_CHANGE:
                self._check(values, column, number, "train")
            yield values

    def evaluated(self, epoch: int, column: str) -> np.ndarray:
        """Return one column of the look after a pass.

        Raises:
            InputError: as for `training`.
        """
        values = next(self._file.read(column, [self._eval[epoch]]))
        self._check(values, column, epoch, "eval")
        return values

    def _check(self, values: np.ndarray, column: str, epoch: int, mode: str) -> None:
        bad = ~np.isfinite(values)
        if bad.any():
            raise InputError(
                f"{self._file.source.location}: '{column}' of epoch {epoch} ({mode}) has no number for "
                f"{int(bad.sum()):,} of {len(values):,} samples, as {self._file.ids[int(np.flatnonzero(bad)[0])].as_py()}",
                CURES.get(column, "make the record again"),
            )
