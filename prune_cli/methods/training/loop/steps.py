"""The steps of a training, on which every recipe runs: what is observed, looks at all samples, how a run stops and goes on.

Nothing random is carried from step to step: the order of a pass and the draws of its samples come from the seed and
the number of the pass, so a run that was stopped at any step goes on to the same bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.errors import InterruptedRun
from prune_cli.core.measures import GRADIENT_NORM, MEASURES
from prune_cli.core.rng import stream_seed
from prune_cli.methods.training.data.augment import augment
from prune_cli.methods.training.data.inputs import IntArray, as_tensor, input_batches, input_preparation
from prune_cli.methods.training.loop.contract import Checkpoint, Observer, StepSamples
from prune_cli.methods.training.loop.course import Course, TrainingState, check_weights, restore, take_snapshot
from prune_cli.methods.training.loop.recording import PassLedger, Recorder, measure
from prune_cli.methods.training.loop.timetable import Batch, SampleStream
from prune_cli.methods.training.networks.forward import Pieces, embed_and_classify, in_pieces, joined

if TYPE_CHECKING:
    import torch
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
        watch.sink.on_record("eval", epoch, _measures(network, course, norms, pieces))


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
    logits, losses = zip(*found, strict=True)
    return joined(logits, 0), joined(losses, 0)


def train_networks(
    networks: Sequence[Network], optimizers: Sequence[torch.optim.Optimizer], course: Course, observer: Observer, resume: Checkpoint | None
) -> None:
    """Train networks in place for all the steps of their course.

    Raises:
        InputError: the checkpoint is of another course.
        NumericalError: a loss or a weight is NaN or infinite; the last checkpoint is from before that.
        InterruptedRun: the observer asked to stop; a checkpoint was saved.
    """
    import torch

    plan, ranks, n_steps = course.plan, course.ranks, course.n_steps
    recorder = None if course.watch is None else Recorder(course.data, course.watch, course.device)
    ledger, pieces = PassLedger(plan, n_steps, observer, recorder, course.structure.facts), Pieces(observer.on_note)
    state = TrainingState(networks, optimizers, course, ledger, pieces)
    first = 0 if resume is None else restore(state, resume)
    begun = -1 if first == 0 else (plan.bounds(first - 1)[1] - 1) // plan.n_selected  # the last pass that was begun
    for network in networks:
        network.train()
    with _reproducible(course.device), contextlib.closing(_batches(course, first)) as batches:
        for batch, labels_b, samples in batches:
            step = samples.step
            while begun < int(batch.passes[-1]):
                begun += 1
                course.learner.begin_pass(begun, lambda k: all_logits(networks[k], course, pieces, k))
            if networks[0].draws_noise:
                torch.manual_seed(stream_seed(course.seed, "noise", step * ranks.size + ranks.rank))
            rate = course.schedule.rate(step)
            logits_bc, losses_b = (ranks.gathered(values, len(batch.passes)) for values in _take_step(state, samples, rate))
            with torch.no_grad():
                if recorder is not None:
                    recorder.add(batch.positions, batch.passes, logits_bc)
                ledger.add(step, rate, batch.passes, torch.stack([losses_b, logits_bc.argmax(1).eq(labels_b).float()]))
            if recorder is not None:
                record_evaluations(networks[0], course, recorder, pieces, last=step + 1 == n_steps)
            observer.on_step(step + 1, n_steps, plan.bounds(step)[1], ledger.facts)
            if step + 1 < n_steps:
                _save_or_stop(state, observer, step + 1)
    ledger.finish()
    check_weights(state, n_steps)


def _batches(course: Course, first: int) -> Generator[tuple[Batch, Tensor, StepSamples], None, None]:
    """Yield of each step from the first on its batch, the batch's labels, and what this process takes of it, on the device."""
    import torch

    plan, device, ranks = course.plan, course.device, course.ranks
    stream = SampleStream(course.data, course.seed, sum(a.n_draws for a in course.augmentations))
    labels_m = as_tensor(course.data.labels_m).to(device)
    batches, ahead = itertools.tee(stream.batch(*plan.bounds(step)) for step in range(first, course.n_steps))
    shares = (batch.positions[ranks.share(len(batch.positions))] for batch in ahead)
    prepare = input_preparation(course.data.input_shape, course.mean, course.std, device)
    with contextlib.closing(input_batches(course.data.inputs, shares, device, course.workers)) as feed:
        for step, (batch, raw) in enumerate(zip(batches, feed, strict=True), start=first):
            positions_b = torch.from_numpy(batch.positions).to(device, non_blocking=True)
            labels_b = labels_m.index_select(0, positions_b)
            mine = ranks.share(len(batch.positions))
            draws_bk = torch.from_numpy(batch.draws[mine]).to(device, non_blocking=True)
            parts = zip(torch.split(draws_bk, [a.n_draws for a in course.augmentations], 1), course.augmentations, strict=True)
            views = tuple(prepare(augment(raw, part_bk, augmentation)) for part_bk, augmentation in parts)
            epoch, whole = int(batch.passes[0]), len(batch.passes)
            yield batch, labels_b, StepSamples(positions_b[mine], labels_b[mine], views, step, epoch, whole)


def _take_step(state: TrainingState, samples: StepSamples, rate: float) -> tuple[Tensor, Tensor]:
    """Take a step with each network in turn, and return the first one's logits and losses of this process's share."""
    import torch

    course, step = state.course, samples.step
    told: list[tuple[Tensor, Tensor]] = []
    for turn, (network, optimizer) in enumerate(zip(state.networks, state.optimizers, strict=True)):
        for group in optimizer.param_groups:
            group["lr"] = rate
        course.structure.begin_step(turn, step)
        told.append(batch_gradient(state, samples, turn))
        optimizer.step()
        with torch.no_grad():
            course.learner.update(turn)
            change = course.structure.update(turn, step, network)
            if change is None and step + 1 == course.n_steps:
                change = course.structure.finish(turn, network)
            if change is not None:
                change(network, optimizer)
                course.learner.reshape(turn, change)
    return told[0]


def _save_or_stop(state: TrainingState, observer: Observer, done: int) -> None:
    """Save a checkpoint after ``done`` steps, and stop, where one of the processes wishes to."""
    ranks, n_steps = state.course.ranks, state.course.n_steps
    stop, save = ranks.any_of(observer.should_stop(), observer.should_checkpoint())
    if stop or save:
        state.ledger.read()
        if ranks.leads:
            observer.save_checkpoint(*take_snapshot(state, done))
    if stop:
        raise InterruptedRun(f"stopped after step {done} of {n_steps}", "go on with --resume")


@contextlib.contextmanager
def _reproducible(device: torch.device) -> Iterator[None]:
    """Leave torch's random state as it was, and let cuDNN take only algorithms that repeat themselves."""
    import torch

    cuda = device.type == "cuda"
    exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True) if cuda else contextlib.nullcontext()
    with torch.random.fork_rng(devices=[device] if cuda else []), exact:
        yield
