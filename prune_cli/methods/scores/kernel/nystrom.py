"""All samples against landmarks: the inverse of a kernel of low rank with its diagonal made right, by Woodbury's identity.

With landmarks m, ``K = H_nm H_mm^-1 H_mn = F F'`` and D the diagonal that K lacks, ``D_ii = max(H_ii - K_ii, floor) + ridge``,

    G = (D + F F')^-1 = D^-1 - D^-1 F A^-1 F' D^-1,    A = I + F' D^-1 F,

whose diagonal and whose product with Y need N M numbers in passing and M^2 to keep. Without the correction of the diagonal there is no
inverse at ridge 0. This module imports torch inside functions only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.progress import Progress
from prune_cli.core.rng import generator
from prune_cli.methods.scores.kernel.factored import Factored, factor_regular
from prune_cli.methods.scores.kernel.kernels import Kernel, KernelBlock, write_tiles
from prune_cli.methods.scores.kernel.ntk import DIAGONAL
from prune_cli.methods.scores.kernel.rows import FloatArray, IntArray

if TYPE_CHECKING:
    import torch

    from prune_cli.methods.scores.kernel.tile_columns import PanelStore
    from prune_cli.methods.scores.kernel.whole_set import Problem

FLOOR = 1e-3
"""Least share of its diagonal that a sample has to itself: a landmark would have none."""

_CHUNK = 4096
_GROUPS = 16  # of chunks, whose sums are kept on the way


def solve_nystrom(
    kernel: Kernel,
    codes_b: NDArray[Any],
    n_classes: int,
    positions: IntArray,
    problem: Problem,
    repeat: int,
    seed: int,
    device: torch.device,
    store: PanelStore | None,
    progress: Progress,
) -> tuple[FloatArray, FloatArray, Factored]:
    """Return (B,) the diagonal of G, (B, C) G Y, both float64, and how the kernel of the landmarks was factored.

    Cost:
        6 N M^2 flops with M landmarks, in float64; 3 M^2 numbers, and a few thousand rows of M.
    Source:
        Snelson, Ghahramani, NeurIPS 2005 (the corrected diagonal); Williams, Seeger, NeurIPS 2000.
    """
    import torch

    from prune_cli.methods.scores.kernel.whole_set import signs_of

    n, m = len(positions), min(problem.landmarks, len(positions))
    drawn = np.sort(generator(seed, "landmarks", repeat).choice(n, m, replace=False))
    ordered = np.concatenate([positions[drawn], positions])  # landmarks first, then all samples
    block = kernel.block(ordered, torch.float64, device)
    lower, factored = _landmarks(block, m, device)
    signs = signs_of(codes_b, n_classes, device)

    def rows_of(start: int) -> tuple[slice, torch.Tensor, torch.Tensor]:
        """Return a chunk of samples, their F and what the diagonal lacks."""
        here = slice(start, min(start + _CHUNK, n))
        tile = torch.empty((here.stop - here.start, m), dtype=torch.float64, device=device)
        write_tiles(block, slice(m + here.start, m + here.stop), slice(0, m), tile)
        features = torch.linalg.solve_triangular(lower.T, tile, upper=True, left=False)
        lacking = (DIAGONAL - features.square().sum(dim=1)).clamp_(min=FLOOR * DIAGONAL) + problem.ridge
        return here, features, lacking

    starts = range(0, n, _CHUNK)
    gram = torch.eye(m, dtype=torch.float64, device=device)
    right = torch.zeros((m, n_classes), dtype=torch.float64, device=device)
    for number, group in enumerate(np.array_split(np.array(starts), min(_GROUPS, len(starts)))):
        name = f"nystrom {repeat} {number}"
        found = store.get(name) if store is not None else None
        if found is None:
            part, sums = torch.zeros_like(gram), torch.zeros_like(right)
            for start in group.tolist():
                here, features, lacking = rows_of(start)
                weighted = features / lacking[:, None]
                part.addmm_(weighted.T, features)
                sums.addmm_(weighted.T, signs[here])
                progress("landmarks", here.stop, 2 * n, None)
            found = {"gram": part.cpu().numpy(), "sums": sums.cpu().numpy()}
            if store is not None:
                store.put(name, found)
        gram += torch.from_numpy(found["gram"]).to(device)
        right += torch.from_numpy(found["sums"]).to(device)
    factor = torch.linalg.cholesky(gram)
    weights = torch.cholesky_solve(right, factor)
    diagonal, solution = np.empty(n), np.empty((n, n_classes))
    for start in starts:
        here, features, lacking = rows_of(start)
        solution[here] = ((signs[here] - features @ weights) / lacking[:, None]).cpu().numpy()
        inner = torch.linalg.solve_triangular(factor.T, features, upper=True, left=False).square().sum(dim=1)
        diagonal[here] = ((1.0 - inner / lacking) / lacking).cpu().numpy()
        progress("landmarks", n + here.stop, 2 * n, None)
    return diagonal, solution, factored


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
