"""Automatic choice: of what several methods select, the selection that a linear proxy learns most from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prune_cli.core.errors import InputError
from prune_cli.core.params import param
from prune_cli.core.progress import Progress, silent
from prune_cli.engines.block import BlockWork
from prune_cli.engines.handout import MapBlocks
from prune_cli.methods.registry.lookup import find_method
from prune_cli.methods.selection.choosing import choose
from prune_cli.methods.selection.contract import Candidates, Choice, Curve, Ranking
from prune_cli.methods.selection.window.ridge import proxy_work, ridge_right_counts, subsets_of


@dataclass(frozen=True)
class BestParams:
    """Parameters of ``best``."""

    methods: str = param("window+stratified+moderate+random", "what is compared, joined by +")
    ridge: float = param(1.0, "penalty of the proxy's squared weights", low=0.0)
    bias: bool = param(False, "give the proxy a feature that is 1 everywhere")

    def names(self) -> list[str]:
        """Return the names of what is compared."""
        return [name.strip() for name in self.methods.split("+") if name.strip()]

    def block_work(self, rows: int, width: int, classes: int, counts: Sequence[int]) -> BlockWork:
        """Return what the blocks of the methods and of the proxy come to."""
        names = self.names()
        found = proxy_work(rows, width + self.bias, classes, len(counts) * max(1, len(names)))
        for name in names:
            kind = find_method("selection", name).params_class()
            if hasattr(kind, "block_work"):
                found += kind().block_work(rows, width, classes, counts) or BlockWork(0, 0, 0.0)
        return found


def select_best(
    candidates: Candidates,
    params: BestParams = BestParams(),
    *,
    counts: Sequence[int],
    seed: int = 0,
    device: str = "auto",
    progress: Progress = silent,
    per_class: bool = False,
    map_blocks: MapBlocks | None = None,
) -> Choice:
    """Return, for each count, the selection of that method whose ridge classifier gets most of all samples right.

    Every method runs with its defaults; the proxy is that of ``window``. Of equals the method named first is taken.

    Args:
        candidates: the samples, with all that the methods need, and ``features`` and ``codes_n``.
        params: see `BestParams`.
        counts: how many to choose.
        seed: the run's seed, given to every method.
        device: where the proxy runs.
        progress: told of each method's progress, and the proxy's.
        per_class: every selection holds the classes in proportion.
        map_blocks: hands out the blocks of the methods and of the proxy; None: they run here.
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
        raise InputError(
            f"best compares other methods, each once; methods={params.methods}", "pass -p methods=window+random"
        )
    choices = {
        name: choose(
            name, candidates, find_method("selection", name).params_class()(),
            counts=counts, per_class=per_class, seed=seed, device=device, progress=progress,
            map_blocks=map_blocks.named(f"{name}: ") if map_blocks is not None else None,
        )
        for name in names
    }  # fmt: skip
    features, codes = candidates.vectors("best"), candidates.codes("best")
    member_wn = np.zeros((len(counts) * len(names), len(candidates)), bool)
    member_wn[:, candidates.kept] = True
    for budget, count in enumerate(counts):
        for place, name in enumerate(names):
            member_wn[budget * len(names) + place, choices[name].rankings[budget].order_n[:count]] = True
    right_w = ridge_right_counts(
        features,
        codes,
        subsets_of(member_wn),
        ridge=params.ridge,
        bias=params.bias,
        device=device,
        progress=progress,
        map_blocks=map_blocks,
        name="best",
    )
    right_bm = right_w.reshape(len(counts), len(names))
    taken = right_bm.argmax(axis=1)
    rankings = []
    for budget, count in enumerate(counts):
        ranking = choices[names[taken[budget]]].rankings[budget]
        rankings.append(
            Ranking(ranking.order_n[:count], reason=f"not selected by {names[taken[budget]]}, the best of {len(names)}")
        )
    curve = Curve(
        budget=np.repeat(np.arange(len(counts)), len(names)),
        start=np.full(right_w.shape, np.nan),
        window_start=np.full(right_w.shape, -1),
        name=names * len(counts),
        proxy_accuracy=right_w / max(1, len(candidates)),
        best=(np.arange(len(names))[None] == taken[:, None]).ravel(),
    )
    return Choice(tuple(rankings), curve)
