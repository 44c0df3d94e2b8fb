"""What a comparison trains on: the selections that were given, or a grid of methods and budgets, and the baselines."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from prune_cli import __version__
from prune_cli.core.errors import InputError
from prune_cli.core.progress import Progress
from prune_cli.core.runtime import Runtime
from prune_cli.io.ids.columns import ID, locate
from prune_cli.io.manifests.data import Dataset
from prune_cli.io.manifests.selection import selected_ids
from prune_cli.io.parquet.provenance import InputFile, Provenance, read_provenance
from prune_cli.io.parquet.tables import ParquetSource, write_table
from prune_cli.io.stores.atomic import atomic_file, guarding
from prune_cli.io.stores.locations import STDIN, is_remote, name_of
from prune_cli.methods.registry.lookup import find_method
from prune_cli.stages.compare.options import FULL, CompareOptions
from prune_cli.stages.select.command import select
from prune_cli.stages.select.request import SelectOptions


@dataclass(frozen=True)
class Subset:
    """Rows to train on, one draw a seed.

    Args:
        name: ``window(forgetting)@0.3``; unique in a comparison.
        method: the name without its budget.
        fraction: share kept of all rows.
        files: seed -> selection manifest, or None for all rows.
        digests: seed -> hash of the rows.
        masks: seed -> (N,) bool rows; seeds with the same rows share the array.
        baseline: whether it is there to be compared with.
        inputs: names of the files that the selection was made from.
        columns: that the selection went by.
        select_seconds: of the selecting, where it was measured.
    """

    name: str
    method: str
    fraction: float
    files: Mapping[int, str | None]
    digests: Mapping[int, str]
    masks: Mapping[int, np.ndarray]
    baseline: bool = False
    inputs: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    select_seconds: float | None = None

    @property
    def rows(self) -> int:
        """Rows kept, of the first seed."""
        return int(next(iter(self.masks.values())).sum())


class SubsetMaker:
    """Makes the subsets of one comparison.

    Args:
        good: (N,) bool, rows that can be trained on.
        work: folder that the selections made here are kept in.
    """

    def __init__(self, dataset: Dataset, good: np.ndarray, seeds: Sequence[int], work: Path, runtime: Runtime, progress: Progress) -> None:
        self._dataset, self.good, self._seeds = dataset, good, tuple(seeds)
        self._work, self._runtime, self._progress = work / "selections", runtime, progress
        self.inputs: list[InputFile] = []

    def full(self) -> Subset:
        """Return all rows that can be trained on."""
        digest = _digest(self.good)
        return Subset(
            FULL, FULL, 1.0, dict.fromkeys(self._seeds), dict.fromkeys(self._seeds, digest),
            dict.fromkeys(self._seeds, self.good), baseline=True,
        )  # fmt: skip

    def given(self, files: Sequence[str]) -> list[Subset]:
        """Return the selections of some files, named after them.

        Raises:
            InputError: a file that selects nothing, everything, or rows that the data have not; two files of the same name.
        """
        named = Counter(name_of(file) for file in files)
        twice = [name for name, count in named.items() if count > 1]
        if twice:
            raise InputError(f"{twice[0]} is given {named[twice[0]]} times", "give every selection a name of its own")
        sources = [ParquetSource(file) for file in files]
        stated = [read_provenance(source.schema) or {} for source in sources]
        methods = [_method_of(one, source.stem) for one, source in zip(stated, sources, strict=True)]
        masks = [self._mask(source) for source in sources]
        for source, mask in zip(sources, masks, strict=True):
            if mask.sum() == self.good.sum():
                raise InputError(
                    f"{source.location} keeps all rows, as the baseline 'full' does",
                    "give a selection of some; with score manifests say --methods and --fractions",
                )
        found = []
        for source, one, method, mask in zip(sources, stated, methods, masks, strict=True):
            self.inputs += source.inputs
            same = [m for m, k in zip(methods, masks, strict=True) if m == method and k.sum() == mask.sum()]
            found.append(
                Subset(
                    name=source.stem,
                    method=method if len(same) == 1 else source.stem,
                    fraction=self._fraction(mask),
                    files=dict.fromkeys(self._seeds, self._readable(source, mask)),
                    digests=dict.fromkeys(self._seeds, _digest(mask)),
                    masks=dict.fromkeys(self._seeds, mask),
                    inputs=(*(f.name for f in source.inputs), *(i["name"] for i in one.get("inputs", []))),
                    columns=tuple(c for k in ("key", "tie") if (c := one.get("parameters", {}).get(k))),
                )
            )
        return found

    def grid(self, options: CompareOptions, params: Mapping[str, tuple[str, ...]]) -> list[Subset]:
        """Return every method that is no baseline at every fraction, selected now unless that was done.

        Args:
            params: assignments by method.
        Raises:
            InputError: see `select`.
        """
        found = []
        for name in options.methods:
            if name in options.baselines:
                continue
            method = find_method("selection", name)
            keys: Sequence[str | None] = options.keys if options.keys and "score" in method.uses else (None,)
            for key in keys:
                seeds = self._seeds if method.seeded else self._seeds[:1]
                made = {seed: self._selected(options, params.get(name, ()), name, key, seed) for seed in seeds}
                files = {seed: made.get(seed, made[seeds[0]]) for seed in self._seeds}
                used = files[seeds[0]]["key"]
                label = f"{name}({used})" if used is not None else name
                for number, fraction in enumerate(options.fractions):
                    found.append(
                        self._subset(
                            f"{label}@{fraction:.6g}",
                            label,
                            {seed: files[seed]["outputs"][number] for seed in self._seeds},
                            inputs=tuple(files[seeds[0]]["inputs"]),
                            columns=tuple(c for k in ("key", "tie") if (c := files[seeds[0]][k])),
                            select_seconds=float(np.mean([files[seed]["seconds"] for seed in seeds])),
                        )
                    )
        for file in (*options.files, options.features, options.probabilities):
            if file is not None:
                self.inputs += [i for i in ParquetSource(file).inputs if i not in self.inputs]
        return found

    def few(self) -> str:
        """Return a selection of the first few rows, for what must run once before it is timed."""
        return self._rows_file("few", np.flatnonzero(self.good)[:256])

    def drawn(self, baseline: str, counts: Sequence[int]) -> list[Subset]:
        """Return the draws of a random baseline for each count of rows."""
        rows = self._rows_file("rows", np.flatnonzero(self.good))
        wanted = sorted(set(counts))
        made = {}
        for seed in self._seeds:
            options = SelectOptions(
                (rows,), method="random", counts=tuple(wanted), per_class=baseline == "random_per_class",
                runtime=dataclasses.replace(self._runtime, seed=seed),
            )  # fmt: skip
            made[seed] = self._run(options, [Path(rows).name, str(wanted), baseline, str(seed), __version__])["outputs"]
        shares = [f"{count / int(self.good.sum()):.3g}" for count in wanted]
        names = shares if len(set(shares)) == len(shares) else [f"{count} rows" for count in wanted]
        return [
            self._subset(f"{baseline}@{names[number]}", baseline, {s: made[s][number] for s in self._seeds}, baseline=True)
            for number in range(len(wanted))
        ]

    def _selected(self, asked: CompareOptions, params: tuple[str, ...], name: str, key: str | None, seed: int) -> Mapping[str, Any]:
        uses = find_method("selection", name).uses
        features = asked.features if "features" in uses else None
        probabilities = asked.probabilities if "probabilities" in uses else None
        sources = [ParquetSource(file) for file in (*asked.files, features, probabilities) if file is not None]
        columns, theirs = sources[0].schema.names, self._dataset.options
        options = SelectOptions(
            asked.files, method=name, fractions=asked.fractions, features=features, probabilities=probabilities,
            params=(*params, *((f"key={key}",) if key is not None else ())),
            per_class=asked.per_class, directions=asked.directions,
            id_column=ID if ID in columns else theirs.id_column,
            label_column="label" if "label" in columns else theirs.label_column,
            runtime=dataclasses.replace(self._runtime, seed=seed),
        )  # fmt: skip
        stated = [name, options.params, options.fractions, options.per_class, options.directions, seed, __version__]
        return self._run(options, [*(i.sha256 for source in sources for i in source.inputs), json.dumps(stated)])

    def _run(self, options: SelectOptions, identity: Sequence[str]) -> Mapping[str, Any]:
        """Return what a selection gave, kept as ``made.json`` beside its files once all of them are there."""
        folder = self._work / hashlib.sha256("\n".join(identity).encode()).hexdigest()[:32]
        note = folder / "made.json"
        made: dict[str, Any] | None = None
        with contextlib.suppress(OSError, ValueError):
            made = json.loads(note.read_text())
        if made is None:
            folder.mkdir(parents=True, exist_ok=True)
            base = str(folder / "selection.parquet")
            with guarding(()):  # files of the comparison's own, which it reads afterwards
                outcome = select(dataclasses.replace(options, output=base, force=True), self._progress)
            stated = read_provenance(ParquetSource(outcome.outputs[0]).schema) or {}
            made = {name: outcome.summary[name] for name in ("key", "tie", "seconds")}
            made |= {"outputs": [Path(o).name for o in outcome.outputs], "inputs": [i["name"] for i in stated.get("inputs", [])]}
            with atomic_file(note) as file:
                file.write(json.dumps(made, sort_keys=True).encode())
        return {**made, "outputs": [str(folder / name) for name in made["outputs"]]}

    def _subset(self, name: str, method: str, files: Mapping[int, str], **more: Any) -> Subset:
        by_file = {file: self._mask(ParquetSource(file)) for file in dict.fromkeys(files.values())}
        masks = {seed: by_file[file] for seed, file in files.items()}
        return Subset(
            name=name,
            method=method,
            fraction=self._fraction(next(iter(masks.values()))),
            files=files,
            digests={seed: _digest(mask) for seed, mask in masks.items()},
            masks=masks,
            **more,
        )

    def _fraction(self, mask: np.ndarray) -> float:
        return float(mask.sum() / self.good.sum())

    def _mask(self, source: ParquetSource) -> np.ndarray:
        where = self._dataset.options.location
        mask = np.zeros(len(self._dataset), bool)
        mask[locate(selected_ids(source), self._dataset.ids, source.location, where)] = True
        mask &= self.good
        if not mask.any():
            raise InputError(f"{source.location} selects no row that can be trained on", "see the ledger of bad rows, or select more")
        return mask

    def _rows_file(self, name: str, rows: np.ndarray) -> str:
        """Return a file of the ids and labels of some rows, named by what they are, so that no other data's is taken for it."""
        dataset = self._dataset
        of = [
            *(i.sha256 for i in dataset.source.inputs),
            json.dumps(dataset.options.identity()),
            hashlib.sha256(rows.tobytes()).hexdigest(),
        ]
        path = self._work / f"{name}-{hashlib.sha256(json.dumps(of).encode()).hexdigest()[:32]}.parquet"
        if not path.exists():
            places = pa.array(rows)
            table = pa.table({ID: dataset.ids.take(places), "label": dataset.labels.values().take(places)})
            path.parent.mkdir(parents=True, exist_ok=True)
            stated = Provenance("compare", "rows", {}, 0, (), packages=("pyarrow",))
            write_table(str(path), table, stated, dataset.source)
        return str(path)

    def _readable(self, source: ParquetSource, mask: np.ndarray) -> str:
        """Return where trainings read a selection: its file, or a copy of what is not one of this machine and is read once."""
        if source.location == STDIN or is_remote(source.location):
            return self._rows_file(source.stem, np.flatnonzero(mask))
        return source.location


def _method_of(stated: Mapping[str, Any], stem: str) -> str:
    if stated.get("command") != "select":
        return stem
    key = stated.get("parameters", {}).get("key")
    return f"{stated['method']}({key})" if key else str(stated["method"])


def _digest(mask: np.ndarray) -> str:
    return hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()
