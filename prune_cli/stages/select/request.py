"""What is asked for: the options of ``prune select``, how many rows that comes to, and the method that they name with its parameters."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prune_cli.core.errors import InputError
from prune_cli.core.params import build_params, split_assignments
from prune_cli.core.runtime import Runtime
from prune_cli.io.ids.columns import ID
from prune_cli.io.manifests.ledger import ErrorAllowance
from prune_cli.io.stores.locations import STDIN, beside
from prune_cli.methods.registry.lookup import find_method, methods_of, preset_params
from prune_cli.methods.registry.method import Method
from prune_cli.methods.registry.selections import DEFAULT, DEFAULT_BY_SCORE
from prune_cli.methods.selection.capabilities import ByThreshold, InBlocks
from prune_cli.stages.select.key import WantedKeys


@dataclass(frozen=True)
class SelectOptions:
    """The options of ``prune select``; see docs/commands.md. Exactly one of the three budgets is given.

    ``before`` is the selection that ``prune manifest top-up`` adds to, in place of ``keep``.
    """

    scores: tuple[str, ...]
    method: str | None = None
    params: tuple[str, ...] = ()
    preset: str | None = None
    features: str | None = None
    probabilities: str | None = None
    fractions: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    threshold: float | None = None
    per_class: bool | None = None
    keep: str | None = None
    before: str | None = None
    drop: str | None = None
    directions: tuple[str, ...] = ()
    selected_only: bool = False
    plot: bool = False
    id_column: str = ID
    label_column: str = "label"
    embedding_column: str = "embedding"
    prob_column: str = "prob"
    max_errors: ErrorAllowance = dataclasses.field(default_factory=ErrorAllowance)
    runtime: Runtime = dataclasses.field(default_factory=Runtime)
    work_dir: Path | None = None
    output: str | None = None
    force: bool = False
    plan: bool = False

    @property
    def command(self) -> str:
        """The command that these are options of."""
        return "select" if self.before is None else "manifest top-up"


@dataclass(frozen=True)
class Budget:
    """One budget: how it was stated, how many rows it keeps, and where the answer goes."""

    stated: dict[str, object]
    count: int
    output: str

    def shown(self) -> str:
        """Return it as people read it."""
        return ", ".join(f"{name} {value}" for name, value in self.stated.items())


def row_count(fraction: float, rows: int) -> int:
    """Return how many rows a fraction keeps: rounded to the nearest, halves up, at least one.

    >>> row_count(0.3, 10), row_count(0.25, 10), row_count(0.01, 10), row_count(0.29, 100)
    (3, 3, 1, 29)
    """
    return max(1, math.floor(fraction * rows + 0.5 + 1e-9))


def check_stated(options: SelectOptions, method: Method) -> None:
    """Check that exactly one kind of budget is given, in range.

    Raises:
        InputError: none or several, a value out of range or twice, a threshold where it has no meaning.
    """
    fractions, counts, threshold = options.fractions, options.counts, options.threshold
    given = [bool(fractions), bool(counts), threshold is not None]
    if sum(given) != 1:
        raise InputError(
            f"select takes exactly one budget, {sum(given)} given" if sum(given) else "select needs a budget",
            "give one of --fraction 0.3, --count 1000, --threshold 0.5",
        )
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise InputError(f"--fraction {fraction:g} is out of range", "give the share to KEEP, above 0 and at most 1")
    for count in counts:
        if count < 1:
            raise InputError(f"--count {count} is out of range", "give the number of rows to keep, at least 1")
    for name, values in (("--fraction", fractions), ("--count", counts)):
        if len(set(values)) != len(values):
            raise InputError(f"{name} names a budget twice", "name each once")
    if threshold is not None:
        if not math.isfinite(threshold):
            raise InputError(f"--threshold {threshold} is no number that a score can be compared with", "give a finite one")
        if not issubclass(method.params_class(), ByThreshold):
            raise InputError(f"--threshold has no meaning for {method.name}", f"use --fraction or --count, or --method {DEFAULT_BY_SCORE}")
        if options.per_class:
            raise InputError("--per-class has no meaning with --threshold", "use --fraction or --count")


def check_counts(budgets: Sequence[Budget], eligible: int, kept: int, keeper: str) -> None:
    """Check that every count lies between what must be kept, by the keeper's word, and what can be.

    Raises:
        InputError: it does not.
    """
    for budget in budgets:
        if budget.count > eligible:
            raise InputError(f"the budget is {budget.count:,} rows and {eligible:,} can be selected", "give a smaller budget or drop less")
        if budget.count < kept:
            raise InputError(f"the budget is {budget.count:,} rows and {keeper} {kept:,}", "give a larger budget or keep less")


def budgets_of(options: SelectOptions, rows: int, base: str) -> list[Budget]:
    """Return the budgets, each with its own output: ``base`` for one, ``base-0.3`` and so on for several.

    Raises:
        InputError: several budgets and standard output.
    """
    if options.threshold is not None:
        return [Budget({"threshold": options.threshold}, 0, base)]
    fractions, counts = options.fractions, options.counts
    several = len(fractions) + len(counts) > 1
    if several and base == STDIN:
        raise InputError("several budgets make several files, and standard output is one", "name a file with -o, or one budget")
    wanted = [("fraction", f, row_count(f, rows)) for f in fractions] + [("count", c, c) for c in counts]
    return [Budget({name: value}, count, beside(base, f"-{value:.10g}.parquet") if several else base) for name, value, count in wanted]


@dataclass(frozen=True)
class Request:
    """What is asked for: the method that the options name, or the default, and the columns that they name."""

    options: SelectOptions
    method: Method
    params: Any
    keys: WantedKeys

    @property
    def needs_key(self) -> bool:
        """Whether a score column is read."""
        return "score" in self.method.uses or self.keys.key is not None or self.options.threshold is not None


def read_request(options: SelectOptions) -> Request:
    """Return what is asked for.

    Raises:
        InputError: no such method, budgets or parameters that have no meaning for it, or an engine where it has no blocks.
    """
    default = DEFAULT_BY_SCORE if options.threshold is not None else DEFAULT
    method = find_method("selection", options.method or default)
    check_stated(options, method)
    assignments = split_assignments(options.params, (method.name,))[method.name]
    keys = WantedKeys(**{field.name: assignments.pop(field.name, None) for field in dataclasses.fields(WantedKeys)})
    preset = preset_params(options.preset, "selection", [method.name])[method.name]
    params: Any = build_params(method.params_class(), {**preset, **assignments}, method.name)
    if options.runtime.engine != "local" and not isinstance(params, InBlocks):
        known = [n for n, m in methods_of("selection").items() if issubclass(m.params_class(), InBlocks)]
        raise InputError(
            f"--engine {options.runtime.engine} runs blocks of work, and {method.name} has none",
            f"leave out --engine, or use one of: {', '.join(known)}",
        )
    return Request(options, method, params, keys)
