"""``prune doctor``."""

from prune_cli.cli.command import Stage, command


@command()
def doctor() -> Stage:
    """Tell what is installed, what the machine has and whether it works; exit code 1 when something needed does not.

    Example: prune doctor > report.txt
    """
    from prune_cli.stages.doctor import examine

    return examine
