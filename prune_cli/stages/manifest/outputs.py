"""What the commands of ``prune manifest`` say of the files they write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prune_cli.io.parquet.provenance import InputFile, Provenance
from prune_cli.stages.frame.outcome import Stopwatch


def provenance_of(
    command: str,
    method: str,
    inputs: Sequence[InputFile],
    rows: tuple[int, int],
    *,
    parameters: Mapping[str, Any] | None = None,
    packages: Sequence[str] = ("pyarrow",),
    directions: Mapping[str, str] | None = None,
) -> Provenance:
    """Return the provenance of a file that is made without chance and without a bad row.

    Args:
        command, method, inputs, parameters, packages: see `Provenance`.
        rows: how many came in, and how many go out.
        directions: of its score columns.
    """
    return Provenance(
        command=command,
        method=method,
        parameters=parameters or {},
        seed=0,
        inputs=inputs,
        packages=packages,
        score_direction=directions or {},
        rows={"rows_in": rows[0], "rows_out": rows[1], "rows_bad": 0},
    )


def summary_of(provenance: Provenance, watch: Stopwatch, **figures: Any) -> dict[str, Any]:
    """Return the summary of a command: its name, figures of its own, its rows, and what it took."""
    return {"command": provenance.command, **figures, **provenance.rows, **watch.figures()}
