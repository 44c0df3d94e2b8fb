"""One training on several devices: each process takes its share of every batch, and the gradients are added up."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prune_cli.core.errors import InputError
from prune_cli.core.launch import Launch

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from prune_cli.methods.training.networks.network import Network

PATIENCE = datetime.timedelta(days=1)
"""How long a process waits for the others: rank 0 looks at all samples by itself where that is asked for."""


@dataclass(frozen=True)
class Ranks:
    """The processes of one training, as one of them sees them; of a process alone every method leaves things as they are."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Return whether this process records and writes."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """Return which of ``n`` samples of a batch are this process's: ``n r // R`` to ``n (r + 1) // R``.

        >>> [Ranks(rank, 3).share(8) for rank in range(3)]
        [slice(0, 2, None), slice(2, 5, None), slice(5, 8, None)]
        """
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def add_up(self, network: Network) -> None:
        """Give every process the sum of all gradients, and the mean of batch-norm's running statistics."""
        if self.size == 1:
            return
        import torch

        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        statistics = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
        with torch.no_grad():
            flat = torch.cat([t.reshape(-1).float() for t in (*gradients, *statistics)])
            torch.distributed.all_reduce(flat)
            n_gradient = sum(gradient.numel() for gradient in gradients)
            flat[n_gradient:] /= self.size
            start = 0
            for tensor in (*gradients, *statistics):
                tensor.copy_(flat[start : start + tensor.numel()].view(tensor.shape))
                start += tensor.numel()

    def gathered(self, mine_b: Tensor, n: int) -> Tensor:
        """Return the rows of all processes, (n, ...), in the order of the batch."""
        if self.size == 1:
            return mine_b
        import torch

        sizes = [s.stop - s.start for s in (Ranks(rank, self.size).share(n) for rank in range(self.size))]
        most = max(sizes)
        padded = mine_b.new_zeros((most, *mine_b.shape[1:]))
        padded[: len(mine_b)] = mine_b
        parts = [torch.empty_like(padded) for _ in sizes]
        torch.distributed.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    def any_of(self, *wishes: bool) -> tuple[bool, ...]:
        """Return of each wish whether one of the processes has it."""
        if self.size == 1:
            return wishes
        import torch

        flags = torch.tensor(wishes, dtype=torch.int32)
        torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
        return tuple(bool(flag) for flag in flags)

    def check_alike(self, settings: str) -> None:
        """Raise on every process where one of them was given other data, options or first weights.

        Raises:
            InputError: they differ.
        """
        if self.size == 1:
            return
        import torch

        mine = torch.tensor(list(hashlib.sha256(settings.encode()).digest()), dtype=torch.int32)
        parts = [torch.empty_like(mine) for _ in range(self.size)]
        torch.distributed.all_gather(parts, mine)
        others = [rank for rank, part in enumerate(parts) if not torch.equal(part, parts[0])]
        if others:
            raise InputError(
                f"rank 0 and rank {others[0]} do not train on the same data, or not with the same settings",
                "start all processes with one command line, on the same files",
            )


ALONE = Ranks()


@contextlib.contextmanager
def process_group(launch: Launch, device: torch.device) -> Iterator[Ranks]:
    """Join the processes of a training within the block: on CUDA devices through NCCL, on CPUs through Gloo."""
    if launch.size == 1:
        yield ALONE
        return
    import torch

    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Ranks(launch.rank, launch.size)
    finally:
        torch.distributed.destroy_process_group()
