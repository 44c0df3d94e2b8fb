"""A symmetric positive definite matrix kept as its lower triangle, halved again and again; factored in place.

    A = [ top    .      ]      top and bottom are triangles again, down to leaves of one tile;
        [ below  bottom ]      below is one dense matrix.

Only the lower half is stored (n^2 / 2 numbers and half a tile's width more), and every operation on it is matrix
products of dense blocks, from large ones to the tile: the speed of a matrix product on any device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import torch

TILE = 256
"""Rows of a leaf: below it products get slow, above it the inverses of the leaves cost too much."""


@dataclass(frozen=True)
class Leaf:
    """One tile on the diagonal: rows ``start`` to ``start + size`` of the whole, and the inverse of its factor."""

    start: int
    size: int
    values: torch.Tensor
    inverse: torch.Tensor


@dataclass(frozen=True)
class Split:
    """A triangle made of two triangles on the diagonal and the dense matrix ``below`` the first, left of the second."""

    start: int
    size: int
    top: Triangle
    below: torch.Tensor
    bottom: Triangle


Triangle: TypeAlias = Leaf | Split


class Rectangle(NamedTuple):
    """A stored rectangle of the whole matrix: its first row and column, its values, and whether it is on the diagonal."""

    row: int
    column: int
    values: torch.Tensor
    diagonal: bool


def allocate(size: int, dtype: torch.dtype, device: torch.device, *, tile: int = TILE, start: int = 0) -> Triangle:
    """Return an uninitialised triangle of ``size`` rows, whose first row is row ``start`` of the whole."""
    import torch

    if size <= tile:
        shape = (size, size)
        return Leaf(start, size, *(torch.empty(shape, dtype=dtype, device=device) for _ in range(2)))
    first = -(-size // tile // 2) * tile if size > 2 * tile else tile
    return join(
        allocate(first, dtype, device, tile=tile, start=start), allocate(size - first, dtype, device, tile=tile, start=start + first)
    )


def join(top: Triangle, bottom: Triangle) -> Split:
    """Return the triangle that has ``top`` and ``bottom`` on its diagonal, with a new dense block between them."""
    import torch

    like = next(rectangles(top)).values
    below = torch.empty((bottom.size, top.size), dtype=like.dtype, device=like.device)
    return Split(top.start, top.size + bottom.size, top, below, bottom)


def stored_numbers(size: int, tile: int = TILE) -> int:
    """Return how many numbers `allocate` stores at most for ``size`` rows, the inverses of the leaves included."""
    tile = min(tile, size)
    return size * (size + tile) // 2 + size * tile


def rectangles(triangle: Triangle) -> Iterator[Rectangle]:
    """Yield every stored rectangle, from the top left to the bottom right."""
    if isinstance(triangle, Leaf):
        yield Rectangle(triangle.start, triangle.start, triangle.values, True)
    else:
        yield from rectangles(triangle.top)
        yield Rectangle(triangle.bottom.start, triangle.top.start, triangle.below, False)
        yield from rectangles(triangle.bottom)


def factor(triangle: Triangle, least_pivot: float, finished: Callable[[int], None]) -> float:
    """Return the smallest pivot of the Cholesky factorisation A = L L', and write L over A.

    Args:
        triangle: A; afterwards L, and the inverse of each diagonal tile beside it.
        least_pivot: stop at the first tile that has a smaller pivot; L is then unfinished.
        finished: called with the number of rows done, tile by tile.
    Returns:
        The smallest L_ii^2 so far; smaller than ``least_pivot`` (0 when not even that, NaN for NaN) if it stopped.
    Cost:
        n^3 / 3 flops, nearly all in matrix products.
    """
    import torch

    if isinstance(triangle, Leaf):
        lower, failed = torch.linalg.cholesky_ex(triangle.values)
        pivot = 0.0 if int(failed) else float(lower.diagonal().min()) ** 2
        if pivot >= least_pivot:
            triangle.values.copy_(lower)
            identity = torch.eye(triangle.size, dtype=lower.dtype, device=lower.device)
            triangle.inverse.copy_(torch.linalg.solve_triangular(lower, identity, upper=False))
            finished(triangle.start + triangle.size)
        return pivot
    pivot = factor(triangle.top, least_pivot, finished)
    if not pivot >= least_pivot:
        return pivot
    divide_by_transposed(triangle.below, triangle.top)
    subtract_gram(triangle.bottom, triangle.below)
    return min(pivot, factor(triangle.bottom, least_pivot, finished))


def subtract_gram(triangle: Triangle, rows: torch.Tensor) -> None:
    """Write A - R R' over A, R being ``rows``, a row of it for each row of A."""
    if isinstance(triangle, Leaf):
        triangle.values.addmm_(rows, rows.T, alpha=-1.0)
        return
    upper, lower = rows[: triangle.top.size], rows[triangle.top.size :]
    subtract_gram(triangle.top, upper)
    triangle.below.addmm_(lower, upper.T, alpha=-1.0)
    subtract_gram(triangle.bottom, lower)


def divide_by_transposed(matrix: torch.Tensor, triangle: Triangle) -> None:
    """Write M L'^-1 over M, the triangle holding the factor L."""
    if isinstance(triangle, Leaf):
        matrix.copy_(matrix @ triangle.inverse.T)
        return
    left, right = matrix[:, : triangle.top.size], matrix[:, triangle.top.size :]
    divide_by_transposed(left, triangle.top)
    right.addmm_(left, triangle.below.T, alpha=-1.0)
    divide_by_transposed(right, triangle.bottom)


def divide_by(matrix: torch.Tensor, triangle: Triangle) -> None:
    """Write M L^-1 over M, the triangle holding the factor L."""
    if isinstance(triangle, Leaf):
        matrix.copy_(matrix @ triangle.inverse)
        return
    left, right = matrix[:, : triangle.top.size], matrix[:, triangle.top.size :]
    divide_by(right, triangle.bottom)
    left.addmm_(right, triangle.below, alpha=-1.0)
    divide_by(left, triangle.top)


def solve(triangle: Triangle, matrix: torch.Tensor) -> None:
    """Write L^-1 M over M, the triangle holding the factor L."""
    if isinstance(triangle, Leaf):
        matrix.copy_(triangle.inverse @ matrix)
        return
    upper, lower = matrix[: triangle.top.size], matrix[triangle.top.size :]
    solve(triangle.top, upper)
    lower.addmm_(triangle.below, upper, alpha=-1.0)
    solve(triangle.bottom, lower)


def invert(triangle: Triangle) -> None:
    """Write L^-1 over the factor L; n^3 / 3 flops."""
    if isinstance(triangle, Leaf):
        triangle.values.copy_(triangle.inverse)
        return
    solve(triangle.bottom, triangle.below)
    divide_by(triangle.below, triangle.top)
    triangle.below.neg_()
    invert(triangle.top)
    invert(triangle.bottom)


def column_sums(triangle: Triangle, matrix: torch.Tensor, tile: int = TILE) -> tuple[torch.Tensor, torch.Tensor]:
    """Return T'M and the sum of squares of each column of the lower triangular matrix T, both float64.

    Args:
        triangle: T; what a diagonal tile holds above the diagonal must be 0, as `invert` leaves it.
        matrix: M, a row for each row of T.
    """
    import torch

    matrix = matrix.double()
    products, squares = torch.zeros_like(matrix), torch.zeros_like(matrix[:, 0])
    for stored in rectangles(triangle):
        row, column = stored.row - triangle.start, stored.column - triangle.start
        columns = slice(column, column + stored.values.shape[1])
        for first in range(0, len(stored.values), tile):
            strip = stored.values[first : first + tile].double()
            products[columns].addmm_(strip.T, matrix[row + first : row + first + len(strip)])
            squares[columns] += strip.square().sum(dim=0)
    return products, squares
