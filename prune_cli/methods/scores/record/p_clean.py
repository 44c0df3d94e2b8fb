"""How likely a label is right, by a training that re-labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PCleanParams:
    """Parameters of ``p_clean``: none."""


def p_clean_scores(p_clean_n: NDArray[np.float64], params: PCleanParams = PCleanParams()) -> dict[str, NDArray[np.float64]]:
    """Return how likely each given label is right, as a run of a re-labeling recipe holds it.

    Args:
        p_clean_n: (N,) 0 to 1, of the run's ``relabels.parquet``: the probability of the given label (sop, elr, elr_plus), or the
            mixture's of small losses (dividemix).
    Returns:
        ``p_clean`` (N,) float64, 0 to 1; higher is easier: more likely right.
    Cost:
        N.
    Source:
        The recipe of the run: see docs/methods.md.
    """
    return {"p_clean": np.array(p_clean_n, np.float64)}
