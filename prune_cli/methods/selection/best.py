"""Automatic choice: of what several methods select, the selection that a linear proxy learns most from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from prune_cli.core.errors import InputError
from prune_cli.core.params import param
from prune_cli.engines.engine import BlockWork
from prune_cli.methods.selection.capabilities import ProblemSize
from prune_cli.methods.selection.contract import Candidates, Choice, Curve, Ranking, Run
from prune_cli.methods.selection.proxy.accuracy import RIDGE, Proxy, confirming_work, proxy_accuracies, proxy_work
from prune_cli.methods.selection.proxy.samples import LabelledVectors, subsets_of


@dataclass(frozen=True)
class BestParams:
    """Parameters of ``best``."""

    methods: str = param("window+stratified+moderate+random", "what is compared, joined by +")
    ridge: float = param(RIDGE, "penalty of the proxy's squared weights, in units of the mean squared length of the vectors", low=0.0)
    bias: bool = param(False, "give the proxy a feature that is 1 everywhere")

    def names(self) -> list[str]:
        """Return the names of what is compared."""
        return [name.strip() for name in self.methods.split("+") if name.strip()]

    def block_work(self, problem: ProblemSize) -> BlockWork:
        """Return what the blocks of the methods and of the proxy come to."""
        names = self.names()
        subsets = len(problem.counts) * max(1, len(names))
        found = proxy_work(problem.rows, problem.width + self.bias, problem.n_classes, subsets)
        found += confirming_work(problem.rows, problem.width + self.bias)
        for name in names:
            found += problem.work_of(name) or BlockWork(0, 0, 0.0)
        return found


def select_best(candidates: Candidates, params: BestParams = BestParams(), run: Run = Run()) -> Choice:
    """Return, for each count, the selection of that method whose ridge classifier gets most of all samples right.

    Every method runs with its defaults and inside each class, so that like is compared with like; the proxy is that of ``window``, judged
    by confirmed samples. Of equals the method named first is taken.

    Args:
        candidates: the samples, with all that the methods need, and ``features`` and ``codes_n``.
        params: see `BestParams`.
        run: given to every method and to the proxy; ``choose`` is what runs a method by its name.
    Returns:
        Choice of one ranking a count, and a curve with one row for each count and method.
    Raises:
        InputError: an unknown method, or one whose needs are not met.
    Cost:
        The methods', and N D^2 + W (D^3 / 3 + 2 N D C) for W = counts x methods.
    Source:
        Ours: the proxy of BWS (Choi, Ki, Chung, ICML 2024, arXiv:2406.03057), over methods instead of windows.
    """
    names = params.names()
    if not names or "best" in names or len(set(names)) < len(names):
        raise InputError(f"best compares other methods, each once; methods={params.methods}", "pass -p methods=window+random")
    balanced = dataclasses.replace(run, per_class=True)
    choices = {name: run.choose(name, candidates, balanced.named(f"{name}: ")) for name in names}
    features, codes = candidates.vectors("best"), candidates.codes("best")
    member_wn = np.zeros((len(run.counts) * len(names), len(candidates)), bool)
    member_wn[:, candidates.kept] = True
    for budget, count in enumerate(run.counts):
        for place, name in enumerate(names):
            member_wn[budget * len(names) + place, choices[name].rankings[budget].order_n[:count]] = True
    subsets = subsets_of(member_wn)
    samples = LabelledVectors(features, codes, subsets.by_cell())
    (accuracy_w,) = proxy_accuracies(samples, [subsets], Proxy(params.ridge, params.bias, "best", True, True), run)
    right_bm = accuracy_w.reshape(len(run.counts), len(names))
    taken = right_bm.argmax(axis=1)
    rankings = []
    for budget, count in enumerate(run.counts):
        ranking = choices[names[taken[budget]]].rankings[budget]
        rankings.append(Ranking(ranking.order_n[:count], reason=f"not selected by {names[taken[budget]]}, the best of {len(names)}"))
    curve = Curve(
        budget=np.repeat(np.arange(len(run.counts)), len(names)),
        start=np.full(accuracy_w.shape, np.nan),
        window_start=np.full(accuracy_w.shape, -1),
        name=names * len(run.counts),
        proxy_accuracy=accuracy_w,
        best=(np.arange(len(names))[None] == taken[:, None]).ravel(),
    )
    return Choice(tuple(rankings), curve)
