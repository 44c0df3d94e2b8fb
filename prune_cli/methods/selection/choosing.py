"""Running a selection method, over all candidates at once or inside each class."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from prune_cli.core.progress import Progress, silent
from prune_cli.core.rng import stream_seed
from prune_cli.engines.handout import MapBlocks
from prune_cli.methods.registry.lookup import find_method
from prune_cli.methods.selection.contract import Candidates, Choice, Ranking, class_numbers, in_each_class


def choose(
    method: str,
    candidates: Candidates,
    params: Any,
    *,
    counts: Sequence[int],
    per_class: bool = False,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = silent,
    memory: int | None = None,
    map_blocks: MapBlocks | None = None,
) -> Choice:
    """Return what a registered method chooses for each count.

    With ``per_class`` every answer holds the classes in proportion (Sainte-Lague): the method runs inside each class, with
    that class's part of every count, and the classes take turns. A method that knows of classes itself is told instead.

    Args:
        method: a selection of the registry.
        candidates: N samples, of which ``kept`` are taken already.
        params: the method's parameters.
        counts: how many to choose, each at most the number of samples that are free.
        per_class: keep the proportion of the classes.
        seed: the run's seed.
        device: where methods that use torch run.
        progress: told how far it is.
        memory: bytes that may be used, for methods that go by it; None: most of what is free.
        map_blocks: hands out blocks of work, for methods that have some; None: they run in this process.
    Returns:
        Choice with one ranking a count, of at least that many positions.
    Raises:
        InputError: something the method needs is not there.
    Cost:
        The method's; ``per_class`` copies the features of one class at a time.
    """
    found = find_method("selection", method)
    run: Callable[..., Choice] = found.load()
    if found.asks_memory:
        run = functools.partial(run, memory=memory)
    if found.in_blocks:
        run = functools.partial(run, map_blocks=map_blocks)
    if found.classes_itself:
        return run(candidates, params, counts=counts, seed=seed, device=device, progress=progress, per_class=per_class)
    if not per_class:
        return run(candidates, params, counts=counts, seed=seed, device=device, progress=progress)
    codes = class_numbers(candidates)
    turns, quotas = in_each_class(candidates, counts, seed)
    members = [np.flatnonzero(codes == code) for code in range(quotas.shape[1])]
    choices = []
    for code in range(quotas.shape[1]):
        if found.in_blocks and map_blocks is not None:
            run = functools.partial(run, map_blocks=map_blocks.named(f"class {code}: "))
        choices.append(
            run(
                candidates.take(members[code]), params, counts=quotas[:, code].tolist(),
                seed=stream_seed(seed, "class", code), device=device, progress=progress,
            )
        )  # fmt: skip
    rankings: list[Ranking] = []
    for i, count in enumerate(counts):
        of_classes = [choice.rankings[i] for choice in choices]
        everything = sum(len(ranking.order_n) for ranking in of_classes) == len(turns)
        nested = all(choice.rankings[0] is choice.rankings[-1] for choice in choices) and len(counts) > 1
        if nested and rankings:
            rankings.append(rankings[0])
            continue
        until = len(turns) if everything else max(counts) if nested else count
        rankings.append(_take_turns(of_classes, members, turns[:until]))
    return Choice(tuple(rankings))


def _take_turns(of_classes: Sequence[Ranking], members: Sequence[np.ndarray], turns: np.ndarray) -> Ranking:
    """Return one ranking of those of the classes, each with a sample for every turn; what a class skips comes last."""
    order, gains, skipped = np.empty(len(turns), np.int64), np.zeros(len(turns)), np.zeros(len(turns), bool)
    for code, ranking in enumerate(of_classes):
        mine = np.flatnonzero(turns == code)
        order[mine] = members[code][ranking.order_n[: len(mine)]]
        skipped[mine] = np.arange(len(mine)) >= len(ranking.order_n) - ranking.skipped
        if ranking.gain_n is not None:
            gains[mine] = ranking.gain_n[: len(mine)]
    last = np.argsort(skipped, kind="stable")
    first = of_classes[0]
    return Ranking(
        order[last],
        int(skipped.sum()),
        gains[last] if first.gain_n is not None else None,
        first.reason,
        first.skipped_reason,
    )
