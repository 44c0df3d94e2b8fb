"""The one loop every recipe trains on: what is observed, how a run stops and goes on.

Nothing random is carried from step to step: the order of a pass and the draws of its samples come from the seed and
the number of the pass, so a run that was stopped at any step goes on to the same bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.errors import InterruptedRun
from prune_cli.core.measures import GRADIENT_NORM, MEASURES
from prune_cli.core.rng import stream_seed
from prune_cli.methods.training.data.augment import Augmentation, augment, normalize
from prune_cli.methods.training.data.inputs import FloatArray, TrainingSet, as_tensor, input_batches
from prune_cli.methods.training.loop.data_parallel import ALONE, Ranks
from prune_cli.methods.training.loop.observer import Checkpoint, Observer
from prune_cli.methods.training.loop.pass_ledger import PassLedger
from prune_cli.methods.training.loop.pieces import Pieces, in_pieces, joined
from prune_cli.methods.training.loop.recording import Recorder, Watch, measure
from prune_cli.methods.training.loop.snapshot import check_weights, restore, take_snapshot
from prune_cli.methods.training.loop.structure import Structure
from prune_cli.methods.training.loop.timetable import SampleStream, Schedule, StepPlan
from prune_cli.methods.training.recipes.learner import Learner, Part

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from prune_cli.methods.training.networks.networks import Network

EVAL_BATCH = 512
"""Samples at a time where nothing is learned."""


@dataclass(frozen=True)
class Course:
    """One training run without its networks: data, plan, and everything that decides the bytes of the result.

    Args:
        data: what is trained on.
        plan: how the stream is cut.
        schedule: the learning rate.
        augmentations: of the pictures, one for each view of a sample that the recipe wants; none for vectors.
        mean, std: (C,) float64, see `channel_statistics`.
        learner: what the recipe makes of a batch.
        structure: what becomes of the networks' units and layers.
        seed: the run's seed.
        device: where it runs.
        dtype: of convolutions and matrix products; float32, or bfloat16 under autocast. The head and the loss are
            always float32.
        workers: processes that decode a stream.
        settings: JSON values that a checkpoint must agree with.
        watch: what is recorded of every sample; None for nothing.
        last_step: where to stop, at the end of a pass, with the schedule of the whole plan; None for the plan's end.
        ranks: the processes that share every batch.
    """

    data: TrainingSet
    plan: StepPlan
    schedule: Schedule
    augmentations: tuple[Augmentation, ...]
    mean: FloatArray
    std: FloatArray
    learner: Learner
    structure: Structure
    seed: int
    device: torch.device
    dtype: torch.dtype
    workers: int
    settings: Mapping[str, Any]
    watch: Watch | None = None
    last_step: int | None = None
    ranks: Ranks = ALONE

    @property
    def n_steps(self) -> int:
        """Return the steps that are taken."""
        return self.plan.n_steps if self.last_step is None else min(self.last_step, self.plan.n_steps)


def train_networks(
    networks: Sequence[Network],
    optimizers: Sequence[torch.optim.Optimizer],
    course: Course,
    observer: Observer,
    resume: Checkpoint | None,
) -> None:
    """Train networks in place for all the steps of their course.

    Args:
        networks: on the course's device, in its memory format; as many as the learner wants.
        optimizers: SGD over each network's parameters.
        course: see `Course`.
        observer: see `Observer`.
        resume: a checkpoint of the same course, or None to begin.
    Raises:
        InputError: the checkpoint is of another course.
        NumericalError: a loss or a weight is NaN or infinite; the last checkpoint is from before that.
        InterruptedRun: the observer asked to stop; a checkpoint was saved.
    """
    import torch

    plan, device, n_steps, learner = course.plan, course.device, course.n_steps, course.learner
    structure, ranks = course.structure, course.ranks
    recorder = None if course.watch is None else Recorder(course.data, course.watch, device)
    ledger = PassLedger(plan, n_steps, observer, recorder, structure.facts)
    pieces = Pieces(observer.on_note)
    trained = (networks, optimizers, learner, structure, ledger, pieces, course.settings)
    first = 0 if resume is None else restore(resume, *trained)
    stream = SampleStream(course.data, course.seed, sum(a.n_draws for a in course.augmentations))
    labels_m = as_tensor(course.data.labels_m).to(device)
    batches, ahead = itertools.tee(stream.batch(*plan.bounds(step)) for step in range(first, n_steps))
    shares = (batch.positions[ranks.share(len(batch.positions))] for batch in ahead)
    feed = input_batches(course.data.inputs, shares, device, course.workers)
    prepare = input_preparation(course.data.input_shape, course.mean, course.std, device)
    begun = -1 if first == 0 else plan.bounds(first - 1)[1] - 1  # the last sample that was seen
    begun = begun // plan.n_selected if begun >= 0 else -1

    for network in networks:
        network.train()
    with _reproducible(device), contextlib.closing(feed):
        for step, (batch, raw) in enumerate(zip(batches, feed, strict=True), start=first):
            while begun < int(batch.passes[-1]):
                begun += 1
                learner.begin_pass(begun, lambda k: look(networks[k], course, pieces, k))
            if networks[0].draws_noise:
                torch.manual_seed(stream_seed(course.seed, "noise", step * ranks.size + ranks.rank))
            rate = course.schedule.rate(step)
            positions_b = torch.from_numpy(batch.positions).to(device, non_blocking=True)
            labels_b = labels_m.index_select(0, positions_b)
            mine = ranks.share(len(batch.positions))
            draws_bk = torch.from_numpy(batch.draws[mine]).to(device, non_blocking=True)
            part = Part(
                positions_b[mine],
                labels_b[mine],
                tuple(prepare(view) for view in _views(raw, draws_bk, course.augmentations)),
                step,
                int(batch.passes[0]),
                len(batch.passes),
            )
            told: tuple[Tensor, Tensor] | None = None
            for turn, optimizer in enumerate(optimizers):
                for group in optimizer.param_groups:
                    group["lr"] = rate
                structure.begin_step(turn, step)
                found = _gradients(networks, optimizer, course, part, turn, pieces)
                optimizer.step()
                with torch.no_grad():
                    learner.update(turn)
                    change = structure.update(turn, step, networks[turn])
                    if change is None and step + 1 == n_steps:
                        change = structure.finish(turn, networks[turn])
                    if change is not None:
                        change(networks[turn], optimizer)
                        learner.reshape(turn, change)
                told = told or found
            assert told is not None
            logits_bc, losses_b = (ranks.gathered(values, len(batch.passes)) for values in told)
            with torch.no_grad():
                if recorder is not None:
                    recorder.add(batch.positions, batch.passes, logits_bc)
                ledger.add(step, rate, batch.passes, torch.stack([losses_b, logits_bc.argmax(1).eq(labels_b).float()]))
            if recorder is not None:
                _evaluate_finished(networks[0], course, recorder, prepare, pieces, last=step + 1 == n_steps)
            observer.on_step(step + 1, n_steps, plan.bounds(step)[1], ledger.facts)
            if step + 1 < n_steps:
                stop, save = ranks.any_of(observer.should_stop(), observer.should_checkpoint())
                if stop or save:
                    ledger.read()
                    if ranks.leads:
                        observer.save_checkpoint(*take_snapshot(step + 1, *trained))
                if stop:
                    raise InterruptedRun(f"stopped after step {step + 1} of {n_steps}", "go on with --resume")
    ledger.finish()
    check_weights(networks, n_steps, ledger)


def _views(raw: Tensor, draws_bk: Tensor, augmentations: Sequence[Augmentation]) -> Iterator[Tensor]:
    """Yield the batch as each augmentation makes it, from draws of its own."""
    first = 0
    for augmentation in augmentations:
        mine = slice(first, first + augmentation.n_draws)
        first = mine.stop
        yield augment(raw, draws_bk[:, mine], augmentation) if augmentation.n_draws else raw


def _gradients(
    networks: Sequence[Network],
    optimizer: torch.optim.Optimizer,
    course: Course,
    whole: Part,
    turn: int,
    pieces: Pieces,
) -> tuple[Tensor, Tensor]:
    """Put the gradient of the mean loss of a batch into a network; return logits and losses of this process's share, detached.

    Before another try in smaller pieces, batch-norm's statistics are put back as they were.
    """
    import torch

    statistics = [buffer for buffer in networks[turn].buffers() if buffer.is_floating_point()]
    before = [buffer.clone() for buffer in statistics]

    def restart() -> None:
        optimizer.zero_grad(set_to_none=True)
        course.learner.restart()
        course.structure.restart(turn)
        for buffer, kept in zip(statistics, before, strict=True):
            buffer.copy_(kept)

    def forward(k: int, inputs_b: Tensor, guess: bool = False, copy: Network | None = None) -> Tensor:
        network = copy or networks[k]
        if guess:
            network.eval()
        with torch.set_grad_enabled(not guess), course.structure.gated(k, network, learning=not guess):
            with torch.autocast(course.device.type, torch.bfloat16, enabled=course.dtype == torch.bfloat16):
                features_bd = network.features(inputs_b)
            logits_bc: Tensor = network.head(features_bd.float())
        if guess and copy is None:
            network.train()
        return logits_bc

    def learn(index_b: Tensor, given_b: Tensor) -> tuple[Tensor, Tensor]:
        part = whole
        if len(index_b) < len(whole.positions_b):
            here = slice(int(index_b[0]), int(index_b[-1]) + 1)
            part = dataclasses.replace(
                whole, positions_b=whole.positions_b[here], labels_b=given_b, views=tuple(v[here] for v in whole.views)
            )
        logits_bc, losses_b = course.learner.losses(turn, forward, part)
        mean = losses_b.mean() if len(given_b) == whole.whole else losses_b.sum() / whole.whole
        mean.backward()  # type: ignore[no-untyped-call]
        return logits_bc.detach(), losses_b.detach()

    if course.structure.asks_losses:

        def loss() -> float:
            with torch.no_grad():
                _, losses_b = course.learner.losses(turn, forward, whole)
            restart()
            return float(losses_b.mean())

        course.structure.probe(turn, loss)
    optimizer.zero_grad(set_to_none=True)
    index_b = torch.arange(len(whole.positions_b), device=course.device)
    found = in_pieces(index_b, whole.labels_b, pieces, learn, restart)
    course.ranks.add_up(networks[turn])
    return joined([logits for logits, _ in found], 0), joined([losses for _, losses in found], 0)


def look(network: Network, course: Course, pieces: Pieces, turn: int = 0) -> Tensor:
    """Return (M, C) float32 logits of all samples of a course, un-augmented, in eval mode, on the course's device.

    They are looked at in the order of the ids, so that the order of the rows changes no bit. ``turn`` says which network
    this is, or is a copy of.
    """
    import torch

    prepare = input_preparation(course.data.input_shape, course.mean, course.std, course.device)
    order_m = course.data.order_m()
    blocks = [order_m[start : start + EVAL_BATCH] for start in range(0, len(order_m), EVAL_BATCH)]
    found = []

    def logits(part_b: Tensor, _: Tensor) -> Tensor:
        with torch.no_grad():
            with torch.autocast(course.device.type, torch.bfloat16, enabled=course.dtype == torch.bfloat16):
                features_bd = network.features(part_b)
            logits_bc: Tensor = network.head(features_bd.float())
            return logits_bc

    network.eval()
    with (
        course.structure.gated(turn, network, learning=False),
        contextlib.closing(input_batches(course.data.inputs, blocks, course.device, course.workers)) as feed,
    ):
        for raw in feed:
            inputs_b = prepare(raw)
            found.append(joined(in_pieces(inputs_b, inputs_b, pieces, logits), 0))
    network.train()
    place_m = torch.from_numpy(np.argsort(order_m)).to(course.device)
    return torch.cat(found)[place_m]


def _evaluate_finished(
    network: Network,
    course: Course,
    recorder: Recorder,
    prepare: Callable[[Tensor], Tensor],
    pieces: Pieces,
    *,
    last: bool,
) -> None:
    """Look at every sample un-augmented and in eval mode, where a pass that the watch names has just ended."""
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
        recorder.hand_evaluation(epoch, _evaluate(network, course, prepare, norms, pieces))


def _evaluate(
    network: Network,
    course: Course,
    prepare: Callable[[Tensor], Tensor],
    gradient_norms: Callable[[Network, Tensor, Tensor], Tensor] | None,
    pieces: Pieces,
) -> dict[str, NDArray[np.float32]]:
    import torch

    m, device = len(course.data), course.device
    names = (*MEASURES, GRADIENT_NORM) if gradient_norms is not None else MEASURES
    columns = np.empty((len(names), m), dtype=np.float32)
    blocks = [np.arange(start, min(start + EVAL_BATCH, m)) for start in range(0, m, EVAL_BATCH)]
    labels_m = as_tensor(course.data.labels_m)

    def look(part_b: Tensor, given_b: Tensor) -> Tensor:
        with torch.no_grad():
            with torch.autocast(device.type, torch.bfloat16, enabled=course.dtype == torch.bfloat16):
                features_bd = network.features(part_b)
            values_kb = measure(network.head(features_bd.float()), given_b)
        if gradient_norms is None:
            return values_kb
        return torch.cat([values_kb, gradient_norms(network, part_b, given_b)[None].to(values_kb)])

    network.eval()
    with (
        course.structure.gated(0, network, learning=False),
        contextlib.closing(input_batches(course.data.inputs, blocks, device, course.workers)) as feed,
    ):
        for block, raw in zip(blocks, feed, strict=True):
            labels_b = labels_m[block[0] : block[-1] + 1].to(device)
            found = in_pieces(prepare(raw), labels_b, pieces, look)
            columns[:, block[0] : block[-1] + 1] = joined(found, 1).cpu().numpy()
    network.train()
    return dict(zip(names, columns, strict=True))


def input_preparation(
    input_shape: tuple[int, ...], mean: FloatArray, std: FloatArray, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """Return the function from a batch as `input_batches` yields it to what a network takes, normalised.

    Args:
        input_shape: (H, W, C) or (D,).
        mean, std: as `channel_statistics` gives them.
        device: where the batches are.
    """
    import torch

    full_scale = 255.0 if len(input_shape) == 3 else 1.0
    mean_c = torch.tensor(mean * full_scale, dtype=torch.float32, device=device)
    scale_c = torch.tensor(1.0 / (std * full_scale), dtype=torch.float32, device=device)
    if len(input_shape) == 3:
        return lambda images_bhwc: normalize(images_bhwc, mean_c, scale_c)
    return lambda vectors_bd: (vectors_bd - mean_c).mul_(scale_c)


@contextlib.contextmanager
def _reproducible(device: torch.device) -> Iterator[None]:
    """Leave torch's random state as it was, and let cuDNN take only algorithms that repeat themselves."""
    import torch

    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[device] if device.type == "cuda" else []))
        if device.type == "cuda":
            stack.enter_context(torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True))
        yield
