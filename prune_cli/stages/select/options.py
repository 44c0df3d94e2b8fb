"""The options of ``prune select``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from prune_cli.core.runtime import Runtime
from prune_cli.io.ids.columns import ID
from prune_cli.io.manifests.ledger import ErrorAllowance


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
    per_class: bool = False
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
