"""Which of the processes of one training this one is, where a launcher started several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prune_cli.core.errors import InputError


@dataclass(frozen=True)
class Launch:
    """The place of a process among those that train one network together.

    Args:
        rank: of this process, from 0; rank 0 leads: it alone writes and speaks.
        size: processes in all.
        local_rank, local_size: the same among the processes of this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def leads(self) -> bool:
        """Return whether this process writes the results."""
        return self.rank == 0


ALONE = Launch()


def read_launch(environment: Mapping[str, str]) -> Launch:
    """Return what torchrun says of this process; one process alone where torchrun did not start it.

    Raises:
        InputError: variables of torchrun that are missing or no numbers.
    Example:
        >>> read_launch({})
        Launch(rank=0, size=1, local_rank=0, local_size=1)
        >>> words = {"TORCHELASTIC_RUN_ID": "x", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
        >>> read_launch(words)
        Launch(rank=5, size=8, local_rank=1, local_size=4)
    """
    if "TORCHELASTIC_RUN_ID" not in environment:
        return ALONE
    try:
        return Launch(*(int(environment[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")))
    except (KeyError, ValueError) as error:
        raise InputError(
            f"torchrun's variables do not say which process this is: {error}", "start it by torchrun, or unset TORCHELASTIC_RUN_ID"
        ) from error
