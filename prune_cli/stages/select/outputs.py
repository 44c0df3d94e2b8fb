"""Where the answers go: a file a budget, and the curve of what was tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prune_cli.core.errors import InputError
from prune_cli.io.stores.atomic import check_output
from prune_cli.io.stores.locations import STDIN, beside
from prune_cli.methods.registry.lookup import methods_of
from prune_cli.stages.select.budgets import Budget, budgets_of
from prune_cli.stages.select.inputs import Inputs
from prune_cli.stages.select.request import Request


@dataclass(frozen=True)
class Outputs:
    """Where the answers go.

    Args:
        base: what their names are made of.
        budgets: each with its file.
        curve: the file of the curve, where a method tries several answers; None for standard output, which is one file.
    """

    base: str
    budgets: Sequence[Budget]
    curve: str | None

    def check(self, request: Request) -> None:
        """Raise where one of them is there already, or a plot is wanted of which there is none."""
        options, tries = request.options, request.method.tries
        outputs = [budget.output for budget in self.budgets]
        if options.plot and (not tries or self.curve is None):
            trying = " or ".join(f"--method {m.name}" for m in methods_of("selection").values() if m.tries)
            raise InputError(
                "--plot draws the curve of what a method tried, and there is none here",
                f"use {trying}, and a file for -o",
            )
        if tries and self.curve is not None:
            outputs += [self.curve, *([beside(self.curve, ".png")] if options.plot else [])]
        for output in outputs:
            check_output(output, options.force)


def outputs_of(request: Request, inputs: Inputs) -> Outputs:
    """Return where the answers go."""
    base = request.options.output or f"{inputs.scores.stem.removesuffix('.scores')}.selection.parquet"
    budgets = budgets_of(request.options, len(inputs.scores.ids), base)
    return Outputs(base, budgets, None if base == STDIN else beside(base, ".curve.parquet"))
