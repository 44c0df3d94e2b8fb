"""The options of ``prune score``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from prune_cli.core.runtime import Runtime
from prune_cli.io.manifests.data import DataOptions


@dataclass(frozen=True)
class ScoreOptions:
    """The options of ``prune score``; see docs/commands.md. ``data`` is None where the record comes from a file."""

    data: DataOptions | None
    methods: tuple[str, ...]
    params: tuple[str, ...] = ()
    preset: str | None = None
    output: str | None = None
    architecture: str | None = None
    epochs: int | None = None
    model: str | None = None
    weights: Path | None = None
    from_dynamics: str | None = None
    save_dynamics: str | None = None
    save_features: str | None = None
    save_kernel: Path | None = None
    load_kernel: Path | None = None
    checkpoint_seconds: float = 60.0
    report_to: str | None = None
    work_dir: Path | None = None
    shard: tuple[int, int] | None = None
    force: bool = False
    plan: bool = False
    runtime: Runtime = dataclasses.field(default_factory=Runtime)
