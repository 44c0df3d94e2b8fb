"""The one loop every recipe trains on: which samples when, what is observed, how a run stops and goes on.

Nothing random is carried from step to step: the order of a pass and the draws of its samples come from the seed and
the number of the pass, so a run that was stopped at any step goes on to the same bytes.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.errors import InputError, InterruptedRun, NumericalError
from prune_cli.core.record import GRADIENT_NORM, MEASURES
from prune_cli.core.rng import generator, stream_seed
from prune_cli.methods.training.augment import Augmentation, augment, normalize
from prune_cli.methods.training.inputs import FloatArray, IntArray, TrainingSet, as_tensor, input_batches
from prune_cli.methods.training.pieces import Pieces, in_pieces, joined
from prune_cli.methods.training.record import Recorder, Watch, measure

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from prune_cli.methods.training.networks import Network

EVAL_BATCH = 512
"""Samples at a time where nothing is learned."""

READ_EVERY = 20
"""Steps between two readings of loss and accuracy, the only moments at which the device is waited for."""


@dataclass(frozen=True)
class Budget:
    """How long to train: passes over the selection, or optimiser steps; exactly one of them.

    Raises:
        InputError: both, neither, or less than 1.
    """

    epochs: int | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise InputError("a training budget is epochs or steps, one of them", "give --epochs N or --steps N")
        if (self.epochs or self.steps or 0) < 1:
            raise InputError(f"a training budget of {self.epochs or self.steps or 0}", "give 1 or more")


class Observer(Protocol):
    """Who watches a run: shows it, keeps its history and checkpoints, and may end it."""

    def on_step(self, step: int, steps: int, samples: int, facts: Mapping[str, float]) -> None:
        """Take note that ``step`` of ``steps`` are done, ``samples`` presentations in all.

        The facts (``loss``, ``accuracy``, ``lr``) are those read last, and none before the first reading.
        """

    def on_pass(self, row: Mapping[str, float | int]) -> None:
        """Take one row of history: a whole pass over the selection, or the begun one that the budget ends in.

        Keys: ``epoch`` (from 1), ``step`` (steps done when it ended), ``samples`` (presentations until then), ``lr``
        (of its last step), ``train_loss`` (mean of what was minimised in the pass), ``train_accuracy`` (of the network
        as it was in training, on augmented inputs).
        """

    def should_checkpoint(self) -> bool:
        """Return whether to save a checkpoint now; asked after every step but the last."""

    def save_checkpoint(self, tensors: dict[str, NDArray[Any]], state: dict[str, Any]) -> None:
        """Keep a checkpoint: arrays by name and JSON values."""

    def should_stop(self) -> bool:
        """Return whether to stop now; asked after every step but the last."""

    def on_note(self, note: str) -> None:
        """Tell the user something once, as that batches go through the device in smaller pieces."""


@dataclass(frozen=True)
class Checkpoint:
    """What `Observer.save_checkpoint` was given, to go on from."""

    tensors: Mapping[str, NDArray[Any]]
    state: Mapping[str, Any]


@dataclass(frozen=True)
class StepPlan:
    """How the stream of samples is cut into steps.

    With ``steps`` every step has exactly the batch size. With ``epochs`` the stream is as long as that many passes and
    is cut into ``ceil(samples / batch size)`` steps whose sizes differ by one at most, never a small rest.

    Args:
        n_steps: optimiser steps, S.
        n_samples: presentations in all, T.
        n_selected: samples in a pass.
    """

    n_steps: int
    n_samples: int
    n_selected: int

    def bounds(self, step: int) -> tuple[int, int]:
        """Return where step ``s`` (from 0) begins and ends in the stream: ``T s // S`` and ``T (s + 1) // S``."""
        return self.n_samples * step // self.n_steps, self.n_samples * (step + 1) // self.n_steps

    def step_of(self, epoch: int) -> int:
        """Return how many steps it takes until every sample was presented ``epoch`` times, at most all there are."""
        return min(self.n_steps, -(-epoch * self.n_selected * self.n_steps // self.n_samples))


def plan_steps(budget: Budget, n_selected: int, batch_size: int) -> StepPlan:
    """Return the plan of a budget.

    Raises:
        InputError: a batch of fewer than 2, which batch-norm cannot take.
    Example:
        >>> plan = plan_steps(Budget(epochs=2), n_selected=5, batch_size=4)
        >>> [plan.bounds(step) for step in range(plan.n_steps)]
        [(0, 3), (3, 6), (6, 10)]
    """
    if batch_size < 2:
        raise InputError(f"a batch of {batch_size}", "give --batch-size 2 or more")
    if budget.steps is not None:
        return StepPlan(budget.steps, budget.steps * batch_size, n_selected)
    n_samples = (budget.epochs or 0) * n_selected
    return StepPlan(min(-(-n_samples // batch_size), n_samples // 2), n_samples, n_selected)


@dataclass(frozen=True)
class Batch:
    """The samples of one step.

    Args:
        positions: (B,) int64 positions in the training set.
        passes: (B,) int64 the pass each belongs to, rising.
        draws: (B, K) float32 in [0, 1), for the augmentation.
    """

    positions: IntArray
    passes: IntArray
    draws: NDArray[np.float32]


class SampleStream:
    """The samples in the order of training: pass after pass over the selection, each in a fresh random order.

    The order and the draws of a pass are made for the whole data set by rank, and what is not selected is then left
    out. So two selections see the samples they share in the same order and with the same augmentation, and their
    differences are paired.
    """

    def __init__(self, data: TrainingSet, seed: int, n_draws: int) -> None:
        self._seed, self._n_draws, self._n_selected = seed, n_draws, len(data)
        self._position_of_rank = np.full(data.n_ranks, -1, dtype=np.int64)
        self._position_of_rank[data.ranks_m] = np.arange(len(data))
        self._pass = -1
        self._positions = np.empty(0, dtype=np.int64)
        self._draws = np.empty((0, n_draws), dtype=np.float32)

    def batch(self, start: int, stop: int) -> Batch:
        """Return the samples ``start`` to ``stop`` of the stream; fast when called in rising order."""
        n = self._n_selected
        positions, passes, draws = [], [], []
        while start < stop:
            number, first = divmod(start, n)
            last = min(n, first + stop - start)
            self._enter(number)
            positions.append(self._positions[first:last])
            draws.append(self._draws[first:last])
            passes.append(np.full(last - first, number, dtype=np.int64))
            start += last - first
        return Batch(np.concatenate(positions), np.concatenate(passes), np.concatenate(draws))

    def _enter(self, number: int) -> None:
        if number == self._pass:
            return
        n = len(self._position_of_rank)
        ranks = generator(self._seed, "order", number).permutation(n)
        ranks = ranks[self._position_of_rank[ranks] >= 0]
        self._positions = self._position_of_rank[ranks]
        if self._n_draws:
            draws_nk = generator(self._seed, "augment", number).random((n, self._n_draws), dtype=np.float32)
            self._draws = draws_nk[ranks]
        else:
            self._draws = np.empty((len(ranks), 0), dtype=np.float32)
        self._pass = number


@dataclass(frozen=True)
class Schedule:
    """The learning rate as a function of the step alone: a linear warm-up, then a cosine or a constant.

    Args:
        peak: the highest rate.
        n_steps: S.
        n_warmup: steps until the peak; step s < n_warmup has ``peak (s + 1) / (n_warmup + 1)``.
        final_fraction: the cosine ends just above this share of the peak.
        cosine: false for a constant rate after the warm-up.
    """

    peak: float
    n_steps: int
    n_warmup: int
    final_fraction: float
    cosine: bool

    def rate(self, step: int) -> float:
        """Return the learning rate of step ``step``, from 0.

        Example:
            >>> [round(Schedule(1.0, 6, 2, 0.0, True).rate(step), 3) for step in range(6)]
            [0.333, 0.667, 1.0, 0.854, 0.5, 0.146]
        """
        if step < self.n_warmup:
            return self.peak * (step + 1) / (self.n_warmup + 1)
        if not self.cosine:
            return self.peak
        done = (step - self.n_warmup) / (self.n_steps - self.n_warmup)
        return self.peak * (self.final_fraction + (1 - self.final_fraction) * (1 + math.cos(math.pi * done)) / 2)


@dataclass(frozen=True)
class Course:
    """One training run without its network: data, plan, and everything that decides the bytes of the result.

    Args:
        data: what is trained on.
        plan: how the stream is cut.
        schedule: the learning rate.
        augmentation: of the pictures; none for vectors.
        mean, std: (C,) float64, see `channel_statistics`.
        objective: logits (B, C) float32 and labels (B,) -> losses (B,), on the device.
        seed: the run's seed.
        device: where it runs.
        dtype: of convolutions and matrix products; float32, or bfloat16 under autocast. The head and the loss are
            always float32.
        workers: processes that decode a stream.
        settings: JSON values that a checkpoint must agree with.
        watch: what is recorded of every sample; None for nothing.
        last_step: where to stop, at the end of a pass, with the schedule of the whole plan; None for the plan's end.
    """

    data: TrainingSet
    plan: StepPlan
    schedule: Schedule
    augmentation: Augmentation
    mean: FloatArray
    std: FloatArray
    objective: Callable[[Tensor, Tensor], Tensor]
    seed: int
    device: torch.device
    dtype: torch.dtype
    workers: int
    settings: Mapping[str, Any]
    watch: Watch | None = None
    last_step: int | None = None

    @property
    def n_steps(self) -> int:
        """Return the steps that are taken."""
        return self.plan.n_steps if self.last_step is None else min(self.last_step, self.plan.n_steps)


def train_network(
    network: Network,
    optimizer: torch.optim.Optimizer,
    course: Course,
    observer: Observer,
    resume: Checkpoint | None,
) -> None:
    """Train a network in place for all the steps of its course.

    Args:
        network: on the course's device, in its memory format.
        optimizer: SGD over the network's parameters.
        course: see `Course`.
        observer: see `Observer`.
        resume: a checkpoint of the same course, or None to begin.
    Raises:
        InputError: the checkpoint is of another course.
        NumericalError: a loss or a weight is NaN or infinite; the last checkpoint is from before that.
        InterruptedRun: the observer asked to stop; a checkpoint was saved.
    """
    import torch

    plan, device, n_steps = course.plan, course.device, course.n_steps
    recorder = None if course.watch is None else Recorder(course.data, course.watch, device)
    ledger = _PassLedger(plan, n_steps, observer, recorder)
    pieces = Pieces(observer.on_note)
    first = 0 if resume is None else _restore(resume, network, optimizer, ledger, pieces, course.settings)
    stream = SampleStream(course.data, course.seed, course.augmentation.n_draws)
    labels_m = as_tensor(course.data.labels_m).to(device)
    batches, ahead = itertools.tee(stream.batch(*plan.bounds(step)) for step in range(first, n_steps))
    feed = input_batches(course.data.inputs, (batch.positions for batch in ahead), device, course.workers)
    prepare = input_preparation(course.data.input_shape, course.mean, course.std, device)

    network.train()
    with _reproducible(device), contextlib.closing(feed):
        for step, (batch, raw) in enumerate(zip(batches, feed, strict=True), start=first):
            if network.draws_noise:
                torch.manual_seed(stream_seed(course.seed, "noise", step))
            rate = course.schedule.rate(step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            labels_b = labels_m.index_select(0, torch.from_numpy(batch.positions).to(device, non_blocking=True))
            if course.augmentation.n_draws:
                draws_bk = torch.from_numpy(batch.draws).to(device, non_blocking=True)
                raw = augment(raw, draws_bk, course.augmentation)
            logits_bc, losses_b = _gradients(network, optimizer, course, prepare(raw), labels_b, pieces)
            optimizer.step()
            with torch.no_grad():
                if recorder is not None:
                    recorder.add(batch.positions, batch.passes, logits_bc)
                ledger.add(step, rate, batch.passes, torch.stack([losses_b, logits_bc.argmax(1).eq(labels_b).float()]))
            if recorder is not None:
                _evaluate_finished(network, course, recorder, prepare, pieces, last=step + 1 == n_steps)
            observer.on_step(step + 1, n_steps, plan.bounds(step)[1], ledger.facts)
            if step + 1 < n_steps:
                stop = observer.should_stop()
                if stop or observer.should_checkpoint():
                    ledger.read()
                    observer.save_checkpoint(*_snapshot(step + 1, network, optimizer, ledger, pieces, course.settings))
                if stop:
                    raise InterruptedRun(f"stopped after step {step + 1} of {n_steps}", "go on with --resume")
    ledger.finish()
    _check_weights(network, n_steps, ledger)


def _gradients(
    network: Network,
    optimizer: torch.optim.Optimizer,
    course: Course,
    inputs_b: Tensor,
    labels_b: Tensor,
    pieces: Pieces,
) -> tuple[Tensor, Tensor]:
    """Put the gradient of the mean loss of a batch into the network; return its logits and losses, detached.

    Before another try in smaller pieces, batch-norm's statistics are put back as they were.
    """
    import torch

    statistics = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
    before = [buffer.clone() for buffer in statistics]

    def restart() -> None:
        optimizer.zero_grad(set_to_none=True)
        for buffer, kept in zip(statistics, before, strict=True):
            buffer.copy_(kept)

    def learn(part_b: Tensor, given_b: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(course.device.type, torch.bfloat16, enabled=course.dtype == torch.bfloat16):
            features_bd = network.features(part_b)
        logits_bc = network.head(features_bd.float())
        losses_b = course.objective(logits_bc, given_b)
        mean = losses_b.mean() if len(given_b) == len(labels_b) else losses_b.sum() / len(labels_b)
        mean.backward()  # type: ignore[no-untyped-call]
        return logits_bc.detach(), losses_b.detach()

    optimizer.zero_grad(set_to_none=True)
    found = in_pieces(inputs_b, labels_b, pieces, learn, restart)
    return joined([logits for logits, _ in found], 0), joined([losses for _, losses in found], 0)


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
    with contextlib.closing(input_batches(course.data.inputs, blocks, device, course.workers)) as feed:
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


@dataclass
class _PassLedger:
    """Loss and accuracy of each pass: values stay on the device until they are read, rows are told at its end."""

    plan: StepPlan
    n_steps: int
    observer: Observer
    recorder: Recorder | None = None
    number: int = 0
    samples: int = 0
    loss: float = 0.0
    correct: float = 0.0
    last_step: int = 0
    last_rate: float = 0.0
    facts: dict[str, float] = field(default_factory=dict)
    pending: list[tuple[int, float, IntArray, Tensor]] = field(default_factory=list)

    def add(self, step: int, rate: float, passes: IntArray, values_2b: Tensor) -> None:
        """Take the losses and the hits of one step, and read now and then."""
        self.pending.append((step, rate, passes, values_2b))
        ends_pass = (self.plan.bounds(step)[1] // self.plan.n_selected) > passes[0]
        if ends_pass or len(self.pending) >= READ_EVERY or step + 1 == self.n_steps:
            self.read()

    def read(self) -> None:
        """Fetch what is pending, check it, and tell the rows of the passes that are over.

        Raises:
            NumericalError: a loss is NaN or infinite.
        """
        import torch

        if not self.pending:
            return
        pending, self.pending = self.pending, []
        values = torch.cat([entry[3] for entry in pending], dim=1).double().cpu().numpy()
        sizes = [len(entry[2]) for entry in pending]
        for (step, rate, passes, _), (losses, hits) in zip(pending, _columns(values, sizes), strict=True):
            if not np.isfinite(losses).all():
                epoch = int(passes[np.flatnonzero(~np.isfinite(losses))[0]]) + 1
                raise NumericalError(
                    f"the training loss is no longer finite at step {step + 1} (epoch {epoch})",
                    "lower the learning rate (-p lr=), or warm up longer (-p warmup_fraction=)",
                )
            self.last_step, self.last_rate = step + 1, rate
            for number in range(int(passes[0]), int(passes[-1]) + 1):
                mine = passes == number
                self.samples += int(mine.sum())
                self.loss += float(losses[mine].sum())
                self.correct += float(hits[mine].sum())
                if self.samples == self.plan.n_selected:
                    self._tell()
        n = values.shape[1]
        self.facts = {"loss": float(values[0].sum()) / n, "accuracy": float(values[1].sum()) / n, "lr": self.last_rate}
        if self.recorder is not None:
            self.recorder.flush()

    def finish(self) -> None:
        """Tell the row of the pass that the budget ends in."""
        self.read()
        if self.samples:
            self._tell()

    def _tell(self) -> None:
        row = {
            "epoch": self.number + 1,
            "step": self.last_step,
            "samples": self.number * self.plan.n_selected + self.samples,
            "lr": self.last_rate,
            "train_loss": self.loss / self.samples,
            "train_accuracy": self.correct / self.samples,
        }
        self.number, self.samples, self.loss, self.correct = self.number + 1, 0, 0.0, 0.0
        self.observer.on_pass(row)

    def sums(self) -> dict[str, Any]:
        """Return the sums of the pass under way, for a checkpoint."""
        return {"pass": self.number, "samples": self.samples, "loss": self.loss, "correct": self.correct}

    def take_up(self, sums: Mapping[str, Any]) -> None:
        """Put back what `sums` returned."""
        self.number, self.samples = int(sums["pass"]), int(sums["samples"])
        self.loss, self.correct = float(sums["loss"]), float(sums["correct"])


def _columns(values: FloatArray, sizes: list[int]) -> Iterator[FloatArray]:
    return iter(np.split(values, np.cumsum(sizes)[:-1], axis=1))


def _snapshot(
    step: int,
    network: Network,
    optimizer: torch.optim.Optimizer,
    ledger: _PassLedger,
    pieces: Pieces,
    settings: Mapping[str, Any],
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    _check_weights(network, step, ledger)
    tensors = {f"network/{name}": tensor for name, tensor in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        momentum = optimizer.state[parameter].get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum/{name}"] = momentum
    arrays = {name: np.array(tensor.detach().cpu().numpy(), order="C") for name, tensor in tensors.items()}
    state = {"step": step, "sums": ledger.sums(), "pieces": pieces.count, "settings": dict(settings)}
    if ledger.recorder is not None:
        recorded, state["record"] = ledger.recorder.state()
        arrays |= recorded
    return arrays, state


def _restore(
    resume: Checkpoint,
    network: Network,
    optimizer: torch.optim.Optimizer,
    ledger: _PassLedger,
    pieces: Pieces,
    settings: Mapping[str, Any],
) -> int:
    """Put a checkpoint into the network, the optimiser and the ledger, and return the step to go on with."""
    import torch

    found = resume.state.get("settings", {})
    differing = [name for name in settings if found.get(name) != settings[name]]
    if differing:
        named = ", ".join(f"{name} (then {found.get(name)}, now {settings[name]})" for name in differing)
        raise InputError(f"the checkpoint is of another run: {named}", "repeat the settings of that run, or start anew")
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            tensor.copy_(torch.from_numpy(np.array(resume.tensors[f"network/{name}"])))
        for name, parameter in network.named_parameters():
            if f"momentum/{name}" in resume.tensors:
                momentum = torch.empty_like(parameter)  # the same memory format, which the fused update relies on
                momentum.copy_(torch.from_numpy(np.array(resume.tensors[f"momentum/{name}"])))
                optimizer.state[parameter]["momentum_buffer"] = momentum
    ledger.take_up(resume.state["sums"])
    pieces.count = int(resume.state.get("pieces", 1))
    if ledger.recorder is not None:
        ledger.recorder.take_up(resume.tensors, resume.state["record"])
    return int(resume.state["step"])


def _check_weights(network: Network, step: int, ledger: _PassLedger) -> None:
    import torch

    if not all(bool(torch.isfinite(tensor).all()) for tensor in network.state_dict().values()):
        raise NumericalError(
            f"a weight is no longer finite after step {step} (epoch {ledger.number + 1})",
            "lower the learning rate (-p lr=), or warm up longer (-p warmup_fraction=)",
        )


@contextlib.contextmanager
def _reproducible(device: torch.device) -> Iterator[None]:
    """Leave torch's random state as it was, and let cuDNN take only algorithms that repeat themselves."""
    import torch

    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[device] if device.type == "cuda" else []))
        if device.type == "cuda":
            stack.enter_context(torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True))
        yield
