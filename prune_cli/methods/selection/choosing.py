"""Running a selection method by its name, over all candidates at once or inside each class."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from prune_cli.core.rng import stream_seed
from prune_cli.engines.engine import BlockWork
from prune_cli.methods.registry.lookup import find_method
from prune_cli.methods.selection.capabilities import ByAngle, Compares, InBlocks, ProblemSize
from prune_cli.methods.selection.classes import class_numbers, in_each_class
from prune_cli.methods.selection.contract import Candidates, Choice, Ranking, Run


def choose(method: str, candidates: Candidates, params: Any, run: Run) -> Choice:
    """Return what a registered method chooses for each count.

    With ``per_class`` every answer holds the classes in proportion (Sainte-Lague): the method runs inside each class, with
    that class's part of every count, and the classes take turns. A method that knows of classes itself is told instead.

    Args:
        method: a selection of the registry.
        candidates: N samples, of which ``kept`` are taken already.
        params: the method's parameters.
        run: counts, seed and what else there is to know.
    Returns:
        Choice with one ranking a count, of at least that many positions.
    Raises:
        InputError: something the method needs is not there.
    Cost:
        The method's; ``per_class`` copies the features of one class at a time.
    """
    found = find_method("selection", method)
    function = found.load()
    run = dataclasses.replace(run, choose=_choose_by_defaults)
    if found.classes_itself or not run.per_class:
        return function(candidates, params, run)  # type: ignore[no-any-return]
    turns, quotas = in_each_class(candidates, run.counts, run.seed)
    codes = class_numbers(candidates)
    members = [np.flatnonzero(codes == code) for code in range(quotas.shape[1])]
    choices: list[Choice] = []
    for code, mine in enumerate(members):
        own = dataclasses.replace(run, counts=quotas[:, code].tolist(), seed=stream_seed(run.seed, "class", code), per_class=False)
        choices.append(function(candidates.take(mine), params, own.named(f"class {code}: ")))
    rankings: list[Ranking] = []
    for i, count in enumerate(run.counts):
        of_classes = [choice.rankings[i] for choice in choices]
        everything = sum(len(ranking.order_n) for ranking in of_classes) == len(turns)
        nested = all(choice.rankings[0] is choice.rankings[-1] for choice in choices) and len(run.counts) > 1
        if nested and rankings:
            rankings.append(rankings[0])
            continue
        until = len(turns) if everything else max(run.counts) if nested else count
        rankings.append(_take_turns(of_classes, members, turns[:until]))
    return Choice(tuple(rankings))


def block_work(params: object, problem: ProblemSize) -> BlockWork | None:
    """Return what the blocks of the method of these parameters come to, None where it has none."""
    if not isinstance(params, InBlocks):
        return None
    return params.block_work(dataclasses.replace(problem, work_of=lambda name: _work_in_classes(name, problem)))


def _work_in_classes(name: str, problem: ProblemSize) -> BlockWork | None:
    """Return what the blocks of a method with its defaults come to, inside each class as if all had the same size."""
    if find_method("selection", name).classes_itself:
        return block_work(_defaults_of(name), problem)
    n_classes = max(1, problem.n_classes)
    counts = [max(1, count // n_classes) for count in problem.counts]
    inside = dataclasses.replace(problem, rows=-(-problem.rows // n_classes), counts=counts)
    work = block_work(_defaults_of(name), inside)
    return work and BlockWork(work.count * n_classes, work.nbytes, work.flops * n_classes)


def goes_by_angle(params: object) -> bool:
    """Return whether the method of these parameters, or one that it runs, divides vectors by their lengths."""
    if isinstance(params, Compares):
        return any(goes_by_angle(_defaults_of(name)) for name in params.names())
    return isinstance(params, ByAngle) and params.by_angle()


def _choose_by_defaults(name: str, candidates: Candidates, run: Run) -> Choice:
    return choose(name, candidates, _defaults_of(name), run)


def _defaults_of(name: str) -> Any:
    return find_method("selection", name).params_class()()


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
    return Ranking(order[last], int(skipped.sum()), gains[last] if first.gain_n is not None else None, first.reason, first.skipped_reason)
