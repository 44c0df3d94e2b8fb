"""What networks say of all samples while they train: un-augmented, in eval mode."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.measures import GRADIENT_NORM, MEASURES
from prune_cli.methods.training.data.inputs import IntArray, input_batches, input_preparation
from prune_cli.methods.training.data.pieces import Pieces, in_pieces, joined
from prune_cli.methods.training.loop.course import Course
from prune_cli.methods.training.loop.recording import Recorder, measure
from prune_cli.methods.training.networks.precision import embed_and_classify

if TYPE_CHECKING:
    from torch import Tensor

    from prune_cli.methods.training.networks.network import Network

EVAL_BATCH = 512
"""Samples at a time where nothing is learned."""


def all_logits(network: Network, course: Course, pieces: Pieces, turn: int = 0) -> Tensor:
    """Return (M, C) float32 logits of all samples of a course, on the course's device.

    They are looked at in the order of the ids, so that the order of the rows changes no bit. ``turn`` says which network
    this is, or is a copy of.
    """
    import torch

    def logits(inputs_b: Tensor, _: Tensor) -> Tensor:
        with torch.no_grad():
            return embed_and_classify(network, inputs_b, course.dtype)[1]

    order_m = course.data.order_m()
    found = torch.cat(_look_at_all(network, course, pieces, turn, order_m, logits, 0))
    return found[torch.from_numpy(np.argsort(order_m)).to(course.device)]


def record_evaluations(network: Network, course: Course, recorder: Recorder, pieces: Pieces, *, last: bool) -> None:
    """Look at every sample where a pass that the watch names has just ended, and hand on what is found."""
    watch = recorder.watch
    if last:
        recorder.flush()
    wanted = [epoch for epoch in recorder.finished if epoch in watch.eval_epochs]
    recorder.finished.clear()
    if last and watch.at_end:
        final = recorder.number + (1 if recorder.seen else 0)
        wanted = [*(epoch for epoch in wanted if epoch != final), final]
    for epoch in wanted:
        norms = watch.gradient_norms if epoch in watch.gradient_epochs else None
        recorder.hand_evaluation(epoch, _measures(network, course, norms, pieces))


def _measures(
    network: Network, course: Course, gradient_norms: Callable[[Network, Tensor, Tensor], Tensor] | None, pieces: Pieces
) -> dict[str, NDArray[np.float32]]:
    import torch

    def measures(inputs_b: Tensor, labels_b: Tensor) -> Tensor:
        with torch.no_grad():
            values_kb = measure(embed_and_classify(network, inputs_b, course.dtype)[1], labels_b)
        if gradient_norms is None:
            return values_kb
        return torch.cat([values_kb, gradient_norms(network, inputs_b, labels_b)[None].to(values_kb)])

    names = (*MEASURES, GRADIENT_NORM) if gradient_norms is not None else MEASURES
    found = _look_at_all(network, course, pieces, 0, np.arange(len(course.data)), measures, 1)
    return dict(zip(names, torch.cat(found, dim=1).cpu().numpy(), strict=True))


def _look_at_all(
    network: Network, course: Course, pieces: Pieces, turn: int, order_m: IntArray, work: Callable[[Tensor, Tensor], Tensor], dim: int
) -> list[Tensor]:
    """Return what ``work`` makes of inputs and labels, block by block in this order; samples run along ``dim``."""
    import torch

    prepare = input_preparation(course.data.input_shape, course.mean, course.std, course.device)
    blocks = [order_m[start : start + EVAL_BATCH] for start in range(0, len(order_m), EVAL_BATCH)]
    found = []
    network.eval()
    with (
        course.structure.gated(turn, network, learning=False),
        contextlib.closing(input_batches(course.data.inputs, blocks, course.device, course.workers)) as feed,
    ):
        for block, raw in zip(blocks, feed, strict=True):
            labels_b = torch.from_numpy(course.data.labels_m[block]).to(course.device)
            found.append(joined(in_pieces(prepare(raw), labels_b, pieces, work), dim))
    network.train()
    return found
