"""Copies with different labels: two rows of nearly the same direction that a kernel cannot tell apart, and that say opposite things."""

from __future__ import annotations

import numpy as np

from prune_cli.core.arrays import FloatArray
from prune_cli.methods.devices import resolve_device
from prune_cli.methods.scores.kernel.samples import Samples

_OUTLYING = 20.0  # times the median: gaps that a copy may explain
_MOST = 512  # samples that are looked at, those of the largest gaps
_COPY = 5e-4  # less than 1: the cosine of rows that count as copies


def contradictory_pairs(samples: Samples, gap_n: FloatArray, device: str = "auto") -> list[tuple[int, int]]:
    """Return the pairs of samples with different classes that are copies of each other, and whose complexity gap says so.

    The gap of such a pair has no bound: it grows as their kernel nears that of one row with itself. So it is enough to look for
    the nearest sample of another class of those whose gap is over 20 times the median, the 512 largest at most.

    Args:
        samples: N samples.
        gap_n: (N,) their complexity gaps.
        device: where products run.
    Returns:
        Pairs of positions, the largest gap first; each once, the smaller position first.
    Cost:
        2 N D flops for each sample that is looked at.
    """
    import torch

    at = resolve_device(device)
    largest = np.argsort(-gap_n, kind="stable")[:_MOST]
    suspects = largest[gap_n[largest] > _OUTLYING * np.median(gap_n)]
    if len(suspects) == 0:
        return []
    unit = samples.rows.unit(suspects, torch.float32, at)
    codes = torch.from_numpy(samples.codes_n.astype(np.int64)).to(at)
    best = torch.full((len(suspects),), -2.0, device=at)
    partner = torch.zeros(len(suspects), dtype=torch.int64, device=at)
    for part in samples.rows.chunks(np.arange(samples.rows.n_samples)):
        here = torch.from_numpy(np.asarray(part)).to(at)
        cosines = unit @ samples.rows.unit(part, torch.float32, at).T
        cosines[codes[suspects][:, None] == codes[here][None]] = -2.0
        value, place = cosines.max(dim=1)
        partner = torch.where(value > best, here[place], partner)
        best = torch.maximum(best, value)
    copies = (best > 1 - _COPY).cpu().numpy()
    found = zip(suspects[copies].tolist(), partner.cpu().numpy()[copies].tolist(), strict=True)
    return list(dict.fromkeys((min(pair), max(pair)) for pair in found))
