"""Samples as a kernel sees them: standardised rows of unit length, and the cosines between them, tile by tile."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.arrays import BoolArray, FloatArray, IntArray, chunks
from prune_cli.core.errors import NumericalError

if TYPE_CHECKING:
    import torch

NO_LENGTH = 2.0**-40
"""A length this small against the numbers it is the difference of is rounding."""

ROUNDING_STEPS = 16
"""Error of a computed cosine, in units in the last place."""

_SAME_PLACE = 1e-12  # unit rows this near are one direction, but for rounding


@dataclass(frozen=True, eq=False)
class Rows(ABC):
    """The samples, and what standardises them: see `make_rows`.

    Args:
        values_nd: (N, D) the samples as they are stored.
    """

    values_nd: NDArray[Any]

    @property
    def n_samples(self) -> int:
        """Number of samples, N."""
        return int(self.values_nd.shape[0])

    @property
    def n_features(self) -> int:
        """Numbers a sample, D."""
        return int(self.values_nd.shape[1])

    def unit(self, positions: IntArray, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Return the (B, D) standardised rows at ``positions``, each divided by its length."""
        import torch

        rows = torch.from_numpy(self.standardised(positions)).to(device)
        return rows.div_(torch.linalg.vector_norm(rows, dim=1, keepdim=True)).to(dtype)

    def block(self, positions: IntArray, dtype: torch.dtype, device: torch.device) -> RowBlock:
        """Return the rows at ``positions``, made ready on the device for `RowBlock.cosines`.

        Raises:
            NumericalError: a row without a direction (zero, NaN or infinite), see `zero_rows`.
        """
        measured = [self.squared_lengths(chunk) for chunk in self.chunks(positions)]
        squares_b, zero_b = (np.concatenate(arrays) for arrays in zip(*measured, strict=True))
        if zero_b.any():
            raise NumericalError(
                f"{zero_b.sum()} row(s) are zero, NaN or infinite after standardisation, the first at position {positions[zero_b][0]}",
                "leave these rows out before scoring: they are bad rows",
            )
        return self._block(positions, 1.0 / np.sqrt(squares_b), dtype, device)

    def some(self, positions: IntArray) -> NDArray[np.float32]:
        """Return the (B, D) float32 unit rows at a few positions, as a tree of two-means asks for them."""
        import torch

        return self.unit(positions, torch.float32, torch.device("cpu")).numpy()

    def along(self, positions: IntArray, direction_d: FloatArray) -> FloatArray:
        """Return (B,) float64 products of the unit rows with a direction."""
        import torch

        direction, cpu = torch.from_numpy(direction_d), torch.device("cpu")
        return np.concatenate([(self.unit(chunk, torch.float64, cpu) @ direction).numpy() for chunk in self.chunks(positions)])

    def chunks(self, positions: IntArray) -> Iterator[IntArray]:
        """Yield ``positions`` in parts whose rows take little memory."""
        for part in chunks(len(positions), self.n_features):
            yield positions[part]

    @abstractmethod
    def pack(self, positions: IntArray) -> dict[str, NDArray[Any]]:
        """Return the rows at ``positions`` and what standardises them, as `unpack_rows` takes them."""

    @abstractmethod
    def standardised(self, positions: IntArray) -> FloatArray:
        """Return the (B, D) rows at ``positions``, standardised but not yet divided by their lengths."""

    @abstractmethod
    def squared_lengths(self, positions: IntArray) -> tuple[FloatArray, BoolArray]:
        """Return the squared lengths of the standardised rows, and which are no more than rounding or not finite."""

    @abstractmethod
    def _block(self, positions: IntArray, inverse_b: FloatArray, dtype: torch.dtype, device: torch.device) -> RowBlock: ...


class RowBlock(ABC):
    """Some of the rows, ready for cosines between any two ranges of them: their stored values, on the device."""

    rounding: float
    """Error of a cosine."""

    @abstractmethod
    def load(self, part: slice) -> Any:
        """Return these rows of the block in the form that `cosines` takes."""

    @abstractmethod
    def cosines(self, left: Any, right: Any, out: torch.Tensor) -> None:
        """Write the cosines of two loaded ranges to ``out``, float64."""


def zero_rows(rows: Rows) -> BoolArray:
    """Return (N,) bool, True for each row without a direction: no score can be computed for it.

    That is a row which is zero after standardisation (a picture in the mean colour, an embedding of zeros), to 12
    digits of the numbers whose difference it is; or one which is not finite.

    Cost:
        One pass, a chunk of rows at a time.
    """
    return np.concatenate([rows.squared_lengths(part)[1] for part in rows.chunks(np.arange(rows.n_samples))])


def has_duplicates(rows: Rows, positions: IntArray) -> bool:
    """Return whether any two rows have the same direction, up to rounding: their kernel is singular then.

    Rows are told apart by their place along one random direction; those at one place are compared.

    Cost:
        One pass, and a sort.
    """
    import torch

    cpu = torch.device("cpu")
    places = rows.along(positions, np.random.Generator(np.random.PCG64(0)).normal(size=rows.n_features))
    order = np.argsort(places, kind="stable")
    near = np.flatnonzero(np.diff(places[order]) <= _SAME_PLACE)
    for first in range(0, len(near), 1024):
        part = near[first : first + 1024]
        left, right = (rows.unit(positions[order[part + k]], torch.float64, cpu) for k in (0, 1))
        if bool((torch.linalg.vector_norm(left - right, dim=1) < _SAME_PLACE).any()):
            return True
    return False
