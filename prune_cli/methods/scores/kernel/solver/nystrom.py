"""All samples against landmarks: the inverse of a kernel of low rank with its diagonal made right, by Woodbury's identity.

With landmarks m, ``K = H_nm H_mm^-1 H_mn = F F'`` and D the diagonal that K lacks, ``D_ii = max(H_ii - K_ii, floor) + ridge``,

    G = (D + F F')^-1 = D^-1 - D^-1 F A^-1 F' D^-1,    A = I + F' D^-1 F,

whose diagonal and whose product with Y need N M numbers in passing and M^2 to keep. Without the correction of the diagonal there is no
inverse at ridge 0. This module imports torch inside functions only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from prune_cli.core.rng import generator
from prune_cli.methods.scores.kernel.kernels import DIAGONAL, KernelBlock, write_tiles
from prune_cli.methods.scores.kernel.solver.factored import Factored, factor_regular
from prune_cli.methods.scores.kernel.solver.system import Inverse, System

if TYPE_CHECKING:
    import torch

FLOOR = 1e-3
"""Least share of its diagonal that a sample has to itself: a landmark would have none."""

_CHUNK = 4096
_GROUPS = 16  # of chunks, whose sums are kept on the way


def solve_nystrom(system: System) -> Inverse:
    """Return the diagonal of G and G Y, each sample's where it is no landmark.

    A landmark is represented without a residual, so that G_ii of it is up to 1 / floor where that of another sample is 1 over its
    residual: its complexity gap would say that it was drawn. Two draws that share no sample are therefore solved, and the landmarks of
    the first take their values from the second. Where all samples are landmarks, they are alike and one draw serves.

    Cost:
        6 N M^2 flops with M landmarks, N / 2 at most, for the first draw and 3 N M^2 for the second, in float64; 3 M^2 numbers, and
        a few thousand rows of M.
    Source:
        Snelson, Ghahramani, NeurIPS 2005 (the corrected diagonal); Williams, Seeger, NeurIPS 2000. The second draw is ours.
    """
    n, wanted = len(system.positions), system.problem.landmarks
    m = n if wanted >= n else max(1, min(wanted, n // 2))
    drawn = generator(system.seed, "landmarks", system.repeat).permutation(n)[: min(n, 2 * m)]
    first, second = np.sort(drawn[:m]), np.sort(drawn[m:])
    diagonal, solution = np.empty(n), np.empty((n, system.n_classes))
    others = np.setdiff1d(np.arange(n), first) if len(second) else np.arange(n)
    factored = _solve_some(system, first, others, "", diagonal, solution)
    if len(second):
        again = _solve_some(system, second, first, "again ", diagonal, solution)
        factored = Factored(
            min(factored.smallest_pivot, again.smallest_pivot), factored.duplicates + again.duplicates, max(factored.jitter, again.jitter)
        )
    return Inverse(diagonal, solution, factored)


def _solve_some(system: System, drawn: np.ndarray, wanted: np.ndarray, name: str, diagonal: np.ndarray, solution: np.ndarray) -> Factored:
    """Fill G_ii and (G Y)_i of the samples wanted, by the landmarks drawn, and return how their kernel was factored."""
    import torch

    n, m, positions, device = len(system.positions), len(drawn), system.positions, system.device
    ordered = np.concatenate([positions[drawn], positions])  # landmarks first, then all samples
    block = system.kernel.block(ordered, torch.float64, device)
    lower, factored = _landmarks(block, m, device)
    signs = system.signs()

    def rows_of(start: int) -> _Rows:
        here = slice(start, min(start + _CHUNK, n))
        tile = torch.empty((here.stop - here.start, m), dtype=torch.float64, device=device)
        write_tiles(block, slice(m + here.start, m + here.stop), slice(0, m), tile)
        features = torch.linalg.solve_triangular(lower.T, tile, upper=True, left=False)
        lacking = (DIAGONAL - features.square().sum(dim=1)).clamp_(min=FLOOR * DIAGONAL) + system.problem.ridge
        return _Rows(here, features, lacking)

    gram, right = _sums(system, m, rows_of, signs, name)
    factor = torch.linalg.cholesky(gram)
    weights = torch.cholesky_solve(right, factor)
    is_wanted = np.zeros(n, bool)
    is_wanted[wanted] = True
    for start in range(0, n, _CHUNK):
        mine = np.flatnonzero(is_wanted[start : start + _CHUNK])
        if len(mine):
            here, features, lacking = rows_of(start)
            at = torch.from_numpy(mine).to(device)
            features, lacking = features[at], lacking[at]
            outputs = (signs[here][at] - features @ weights) / lacking[:, None]
            inner = torch.linalg.solve_triangular(factor.T, features, upper=True, left=False).square().sum(dim=1)
            solution[start + mine] = outputs.cpu().numpy()
            diagonal[start + mine] = ((1.0 - inner / lacking) / lacking).cpu().numpy()
        system.progress(f"{name}landmarks", n + min(start + _CHUNK, n), 2 * n, None)
    return factored


class _Rows(NamedTuple):
    """A chunk of samples, their rows of F, and what the diagonal lacks."""

    here: slice
    features: torch.Tensor
    lacking: torch.Tensor


def _sums(system: System, m: int, rows_of: Callable[[int], _Rows], signs: torch.Tensor, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return A (M, M) and F' D^-1 Y (M, C); the sums of every group of chunks are kept."""
    import torch

    n, store = len(system.positions), system.store
    starts = range(0, n, _CHUNK)
    gram = torch.eye(m, dtype=torch.float64, device=system.device)
    right = torch.zeros((m, system.n_classes), dtype=torch.float64, device=system.device)
    for number, group in enumerate(np.array_split(np.array(starts), min(_GROUPS, len(starts)))):
        kept_as = f"nystrom {name}{system.repeat} {number}"
        found = store.get(kept_as) if store is not None else None
        if found is None:
            part, sums = torch.zeros_like(gram), torch.zeros_like(right)
            for start in group.tolist():
                here, features, lacking = rows_of(start)
                weighted = features / lacking[:, None]
                part.addmm_(weighted.T, features)
                sums.addmm_(weighted.T, signs[here])
                system.progress(f"{name}landmarks", here.stop, 2 * n, None)
            found = {"gram": part.cpu().numpy(), "sums": sums.cpu().numpy()}
            if store is not None:
                store.put(kept_as, found)
        gram += torch.from_numpy(found["gram"]).to(system.device)
        right += torch.from_numpy(found["sums"]).to(system.device)
    return gram, right


def _landmarks(block: KernelBlock, count: int, device: torch.device) -> tuple[torch.Tensor, Factored]:
    """Return the Cholesky factor of the landmarks' kernel, and how it went."""
    import torch

    lower: list[torch.Tensor] = []

    def factor(added: float, least: float) -> tuple[float, int]:
        like = torch.empty((count, count), dtype=torch.float64, device=device)
        repeated = write_tiles(block, slice(0, count), slice(0, count), like)
        like.fill_diagonal_(DIAGONAL + added)
        found, failed = torch.linalg.cholesky_ex(like)
        lower[:] = [found]
        return 0.0 if int(failed) else float(found.diagonal().min()) ** 2, int(repeated.sum())

    factored = factor_regular(factor, count, 0.0, torch.float64)
    return lower[0], factored
