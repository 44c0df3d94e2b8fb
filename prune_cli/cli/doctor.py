"""``prune doctor``."""

from __future__ import annotations

from prune_cli.cli import options as opt
from prune_cli.cli.running import run


@opt.spread
def doctor(*, printing: opt.PrintFlags) -> None:
    """Tell what is installed, what the machine has and whether it works; exit code 1 when something needed does not.

    Example: prune doctor > report.txt
    """
    from prune_cli.stages.doctor import examine

    run(examine, printing)
