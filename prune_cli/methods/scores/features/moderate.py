"""The score ``moderate``: how far a sample lies from the median of its class."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.arrays import FloatArray, IntArray, chunks
from prune_cli.core.params import build_params
from prune_cli.core.progress import Progress, silent
from prune_cli.methods.scores.features.samples import check_samples, row_lengths


@dataclass(frozen=True)
class ModerateParams:
    """Parameters of `moderate_scores`: none."""


def moderate_scores(
    features_nd: NDArray[Any],
    codes_n: NDArray[Any],
    params: ModerateParams = ModerateParams(),
    *,
    order_n: IntArray | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = silent,
) -> dict[str, FloatArray]:
    r"""Return the distance of each sample to the median of its class.

    With ``m_c`` the coordinate-wise median of the features of class c, ``score_i = |x_i - m_(c_i)|``. The median is not
    moved by a few wrong labels, so a sample far from it is rare, hard or mislabeled, and one close to it is typical.

    Args:
        features_nd: (N, D) float32 or float64, finite.
        codes_n: (N,) int class of each sample, 0 or more; a code may have no sample.
        params: none, see `ModerateParams`.
        order_n: (N,) int64, the samples' positions in canonical order (argsort of the ids). None: as they come.
        seed: not used, nothing is drawn.
        device: checked, not used: it runs on the processor.
    Returns:
        ``moderate`` (N,) float64, 0 or more, in the unit of the features; higher is harder. The only sample of a class
        has 0.
    Raises:
        InputError: arrays that do not fit each other, another dtype, a feature that is not finite.
    Cost:
        N D log N time, a few chunks of 32 MiB.
    Source:
        Xia, Liu, Yu, Shen, Han, Liu, ICLR 2023 (Moderate coreset). The paper keeps the samples whose distance is
        nearest to the median distance; here is the distance, the window is the selection's. No deviation known.

    Example:
        Class 0 has its median at (1, 0); class 1 is alone.

        >>> import numpy as np
        >>> features = np.array([[0.0, 0.0], [1.0, 0.0], [4.0, 4.0], [7.0, 7.0]])
        >>> moderate_scores(features, np.array([0, 0, 0, 1]))["moderate"].tolist()
        [1.0, 0.0, 5.0, 0.0]
    """
    build_params(ModerateParams, dataclasses.asdict(params), "moderate")
    order_n = check_samples(features_nd, codes_n, order_n, device)
    n_samples, n_features = features_nd.shape
    by_class = order_n[np.argsort(codes_n[order_n], kind="stable")]
    classes, starts = np.unique(codes_n[by_class], return_index=True)
    scores = np.empty(n_samples)
    for done, members in enumerate(np.split(by_class, starts[1:])):
        progress("moderate classes", done, len(classes), None)
        median = np.empty(n_features)
        for part in chunks(n_features, len(members)):
            median[part] = np.median(features_nd[members, part].astype(np.float64), axis=0)
        for part in chunks(len(members), n_features):
            scores[members[part]] = row_lengths(features_nd[members[part]].astype(np.float64) - median)
    progress("moderate classes", len(classes), len(classes), None)
    return {"moderate": scores}
