"""The gradient of one batch, in pieces where the device has not the memory for all of it at once."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from prune_cli.methods.training.data.pieces import in_pieces, joined
from prune_cli.methods.training.loop.contract import StepSamples
from prune_cli.methods.training.loop.course import TrainingState
from prune_cli.methods.training.networks.precision import embed_and_classify

if TYPE_CHECKING:
    from torch import Tensor

    from prune_cli.methods.training.networks.network import Network


def batch_gradient(state: TrainingState, batch: StepSamples, turn: int) -> tuple[Tensor, Tensor]:
    """Put the gradient of the mean loss of a batch into a network; return logits and losses of this process's share, detached.

    Before another try in smaller pieces, batch-norm's statistics are put back as they were.
    """
    import torch

    networks, optimizer, course = state.networks, state.optimizers[turn], state.course
    learner, structure = course.learner, course.structure
    statistics = [buffer for buffer in networks[turn].buffers() if buffer.is_floating_point()]
    before = [buffer.clone() for buffer in statistics]

    def restart() -> None:
        optimizer.zero_grad(set_to_none=True)
        learner.restart()
        structure.restart(turn)
        for buffer, kept in zip(statistics, before, strict=True):
            buffer.copy_(kept)

    def forward(k: int, inputs_b: Tensor, guess: bool = False, copy: Network | None = None) -> Tensor:
        network = copy or networks[k]
        if guess:
            network.eval()
        with torch.set_grad_enabled(not guess), structure.gated(k, network, learning=not guess):
            _, logits_bc = embed_and_classify(network, inputs_b, course.dtype)
        if guess and copy is None:
            network.train()
        return logits_bc

    def learn(index_b: Tensor, labels_b: Tensor) -> tuple[Tensor, Tensor]:
        piece = batch
        if len(index_b) < len(batch.positions_b):
            here = slice(int(index_b[0]), int(index_b[-1]) + 1)
            views = tuple(view[here] for view in batch.views)
            piece = dataclasses.replace(batch, positions_b=batch.positions_b[here], labels_b=labels_b, views=views)
        logits_bc, losses_b = learner.losses(turn, forward, piece)
        mean = losses_b.mean() if len(labels_b) == batch.whole else losses_b.sum() / batch.whole
        mean.backward()  # type: ignore[no-untyped-call]
        return logits_bc.detach(), losses_b.detach()

    def loss() -> float:
        with torch.no_grad():
            _, losses_b = learner.losses(turn, forward, batch)
        restart()
        return float(losses_b.mean())

    if structure.asks_losses:
        structure.probe(turn, loss)
    optimizer.zero_grad(set_to_none=True)
    index_b = torch.arange(len(batch.positions_b), device=course.device)
    found = in_pieces(index_b, batch.labels_b, state.pieces, learn, restart)
    course.ranks.add_up(networks[turn])
    return joined([logits for logits, _ in found], 0), joined([losses for _, losses in found], 0)
