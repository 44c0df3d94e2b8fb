"""Small problems of kernel scores, their slow twins, and how they are solved."""

from __future__ import annotations

import numpy as np
import torch

from prune_cli.methods.scores.kernel.kernels import ReluKernel
from prune_cli.methods.scores.kernel.pieces.kinds import SetPiece, Settings
from prune_cli.methods.scores.kernel.pieces.solving import solve_piece
from prune_cli.methods.scores.kernel.rows.kinds import make_rows
from prune_cli.methods.scores.kernel.samples import Samples
from prune_cli.methods.scores.kernel.solver.problem import Problem, SampleSet, SetResult, Solution
from prune_cli.methods.scores.kernel.solver.sets import solve_set

CPU = torch.device("cpu")


def kernel_matrix(values: np.ndarray, depth: int = 1) -> np.ndarray:
    """The slow twin of the kernel: its recursion, an entry at a time in words of its own."""
    rows = values / np.linalg.norm(values, axis=1, keepdims=True)
    like = np.clip(rows @ rows.T, -1, 1)
    like[like > 1 - 1e-14] = 1.0
    tangent = like.copy()
    for layer in range(depth):
        angle = np.arccos(like)
        if layer == depth - 1:
            return tangent * (np.pi - angle) / np.pi / (2 * depth)
        like = (np.sin(angle) + np.cos(angle) * (np.pi - angle)) / np.pi
        tangent = like + tangent * (np.pi - angle) / np.pi
        np.fill_diagonal(like, 1.0)
    raise AssertionError


def left_out(matrix: np.ndarray, codes: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """The definitions: the gap and the prediction, one solve for each sample left out."""
    n, classes = len(codes), codes.max() + 1
    signs = np.where(np.arange(classes) == codes[:, None], 1.0, -1.0)
    matrix = matrix + ridge * np.eye(n)
    gaps, predictions = np.empty(n), np.empty((n, classes))
    for i in range(n):
        keep = np.delete(np.arange(n), i)
        y, solved = signs[:, codes[i]], np.linalg.solve(matrix[np.ix_(keep, keep)], signs[keep])
        predictions[i] = matrix[i, keep] @ solved
        gaps[i] = y @ np.linalg.solve(matrix, y) - y[keep] @ solved[:, codes[i]]
    return gaps, predictions


def problem(seed: int, n: int = 30, features: int = 8, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % classes
    rng.shuffle(codes)
    return rng.normal(size=(n, features)) + np.eye(features)[codes], codes


def kernel_tile(values: np.ndarray, depth: int) -> np.ndarray:
    block = ReluKernel(make_rows(values), depth).block(np.arange(len(values)), torch.float64, CPU)
    out = torch.empty((len(values),) * 2, dtype=torch.float64)
    part = block.load(slice(0, len(values)))
    block.tile(part, part, out)
    return out.numpy()


def samples_of(values, codes, kernel=None, order=None) -> Samples:  # type: ignore[no-untyped-def]
    rows = make_rows(values)
    order = np.arange(len(codes)) if order is None else order
    return Samples(rows, kernel or ReluKernel(rows), codes, int(codes.max()) + 1, order)


def solved(values, codes, kernel=None, order=None, **how) -> Solution:  # type: ignore[no-untyped-def]
    settings = Settings(**{name: how.pop(name) for name in ("seed", "precision", "device") if name in how})
    stated = Problem(**{"mode": "exact", "ridge": 0.0, "predictions": True, **how})
    return solve_piece(SetPiece(("relu", False), stated), samples_of(values, codes, kernel, order), settings)


def solved_set(values, codes, store=None, precision="float64", ridge=0.0, mode="exact") -> SetResult:  # type: ignore[no-untyped-def]
    stated, everyone = Problem(mode, ridge, True, landmarks=30), np.arange(len(codes))
    return solve_set(samples_of(values, codes), everyone, stated, SampleSet(0, 0), precision=precision, store=store)
