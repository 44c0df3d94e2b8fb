"""What the files that a selection was made from have cost, as the ``--json`` of the commands that made them said."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prune_cli.core.errors import InputError
from prune_cli.io.parquet.provenance import read_provenance
from prune_cli.io.parquet.tables import ParquetSource
from prune_cli.io.stores.locations import is_remote, name_of, require_local
from prune_cli.io.stores.reading import there
from prune_cli.stages.compare.subsets import Subset

_VECTORS, _SELECTED = ("embedding", "prob"), "selected"
_WRITES = ("output", "features", "dynamics", "kernel")


@dataclass(frozen=True)
class Spent:
    """What one command spent.

    Args:
        command: ``score``, ``select``, ``train``.
        outputs: name of each file it wrote -> its columns, or None where the file is gone.
        inputs: names of the files these were made from, so far as they can be looked up.
        flops: of its work, or None where it did not say.
    """

    command: str
    outputs: Mapping[str, frozenset[str] | None]
    inputs: frozenset[str]
    seconds: float
    flops: float | None


@dataclass(frozen=True)
class Cost:
    """What scoring and selecting cost, once.

    Args:
        score_seconds, score_flops: of all that came before selecting; FLOPs are None where a part is not known.
        select_seconds: of selecting, or None where nobody measured it.
    """

    score_seconds: float
    score_flops: float | None
    select_seconds: float | None


def read_costs(files: Sequence[str]) -> list[Spent]:
    """Return what some files of ``--json`` output say, one JSON object a line.

    Raises:
        InputError: no such file, or not what a command of ours printed; names the file and the line.
    """
    found: list[Spent] = []
    for file in files:
        require_local(file, "--costs")
        path = Path(file)
        if not path.is_file():
            raise InputError(f"--costs {file} does not exist", "prune score DATA --json > FILE writes it")
        lines = enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        here = [_spent(line, f"--costs {file}, line {number}", path.parent) for number, line in lines if line.strip()]
        if not here:
            raise InputError(f"--costs {file} is empty", "prune score DATA --json > FILE writes it")
        found += here
    return found


def cost_of(
    inputs: Iterable[str], columns: Iterable[str], spent: Sequence[Spent], select_seconds: float | None
) -> tuple[Cost | None, set[int]]:
    """Return what a selection cost, and which commands were counted.

    A command counts once, with what its own inputs cost. Where several score manifests were joined, those alone count that have
    a column the selection went by.

    Args:
        inputs: names of the files it was made from, its own among them.
        columns: that it went by.
        select_seconds: of selecting, where the comparison did it.
    Returns:
        Cost, or None where nothing is known of what was before selecting.
    """
    used = {*columns, *_VECTORS}
    wanted = set(inputs)
    counted = {
        i for i, one in enumerate(spent) for name, has in one.outputs.items()
        if name in wanted and (has is None or _SELECTED in has or has & used)
    }  # fmt: skip
    latest = counted
    while latest:
        before_those = {name for i in latest for name in spent[i].inputs}
        latest = {i for i, one in enumerate(spent) if one.outputs.keys() & before_those} - counted
        counted |= latest
    before = [spent[i] for i in sorted(counted) if spent[i].command != "select"]
    selecting = [spent[i].seconds for i in counted if spent[i].command == "select"]
    if selecting:
        select_seconds = sum(selecting)
    if not before:
        return None, counted
    flops = [one.flops for one in before]
    return Cost(
        sum(one.seconds for one in before), None if None in flops else sum(f for f in flops if f is not None), select_seconds
    ), counted


def costs_of(subsets: Sequence[Subset], spent: Sequence[Spent]) -> tuple[dict[str, Cost | None], list[str]]:
    """Return what each subset that is no baseline cost to select, and what to tell of costs that are not known or not used."""
    costs: dict[str, Cost | None] = {}
    used: set[int] = set()
    for subset in subsets:
        if subset.baseline:
            continue
        costs[subset.name], counted = cost_of(subset.inputs, subset.columns, spent, subset.select_seconds)
        used |= counted
    said = []
    unknown = [name for name, cost in costs.items() if cost is None]
    if unknown:
        said.append(
            f"what scoring cost is not known for {len(unknown)} selection(s), such as {unknown[0]}: no break-even for them "
            "(prune score ... --json > score.json, then --costs score.json)"
        )
    for i, one in enumerate(spent):
        if i not in used:
            said.append(f"--costs: what {one.command} made ({', '.join(sorted(one.outputs))}) serves no selection here")
    return costs, said


def _spent(line: str, where: str, folder: Path) -> Spent:
    try:
        said: Any = json.loads(line)
        seconds = float(said["seconds"])
        command = str(said["command"])
        places = [said[name] for name in _WRITES if isinstance(said.get(name), str)]
        places += [one["output"] for one in said.get("outputs", [])]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InputError(f"{where} is not what a command printed with --json", "prune score DATA --json > FILE writes it") from None
    # as the command was told, or beside what it printed
    found = [place if is_remote(place) or Path(place).is_file() else str(folder / Path(place).name) for place in places]
    flops = said.get("flops")
    if command == "train":
        # what it says is one forward pass of a sample
        flops = None if flops is None or "samples" not in said else 3.0 * flops * said["samples"]
    return Spent(
        command,
        {name_of(place): _columns_of(place) for place in found},
        frozenset(name for place in found for name in _inputs_of(place)),
        seconds,
        None if flops is None else float(flops),
    )


def _columns_of(place: str) -> frozenset[str] | None:
    try:
        return frozenset(ParquetSource(place).schema.names) if there(place) else None
    except InputError:
        return None


def _inputs_of(place: str) -> Iterable[str]:
    """Return the names of what a file was made from, where it is still there: of a run folder's file, the folder."""
    try:
        stated: Mapping[str, Any] = (read_provenance(ParquetSource(place).schema) or {}) if there(place) else {}
    except InputError:
        return ()
    return [str(one["name"]).split("/")[0] for one in stated.get("inputs", [])]
