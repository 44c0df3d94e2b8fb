"""The tile columns of a factor: where they are kept, on a device or in a store.

This module imports torch inside functions only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from prune_cli.core.errors import InputError

if TYPE_CHECKING:
    import torch

WIDTH = 2048
"""Rows and columns of a tile; the last digits depend on it, so that it is the same everywhere."""


class PanelStore(Protocol):
    """Where the columns of a factor are kept."""

    def get_panel(self, name: str) -> np.ndarray | None:
        """Return a kept panel, which may be memory-mapped, or None."""

    def put_panel(self, name: str, panel: np.ndarray) -> None:
        """Keep a panel, whole or not at all."""

    def get(self, block: str) -> dict[str, np.ndarray] | None:
        """Return small arrays that were kept, or None."""

    def put(self, block: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep small arrays, whole or not at all."""


@dataclass
class Columns:
    """The factor of ``H + added I``.

    Args:
        size: rows of the kernel, N.
        width: rows of a tile, W.
        dtype, device: of the computation.
        store: keeps the columns; None keeps them on the device.
        stem: of their names, which says what was added to the diagonal.
    """

    size: int
    width: int
    dtype: torch.dtype
    device: torch.device
    store: PanelStore | None
    stem: str = ""
    _here: dict[int, torch.Tensor] = field(default_factory=dict)

    def begin(self, stem: str) -> None:
        """Start a factor of that stem, without what is on the device of another."""
        self.stem = stem
        self._here.clear()

    @property
    def count(self) -> int:
        """Number of columns of tiles."""
        return -(-self.size // self.width)

    def span(self, j: int) -> slice:
        """Return the rows of tile ``j``."""
        return slice(j * self.width, min((j + 1) * self.width, self.size))

    def get(self, j: int) -> torch.Tensor:
        """Return column ``j`` of the factor from its diagonal tile down, (N - j W, W)."""
        import torch

        if self.store is None:
            return self._here[j]
        panel = self.store.get_panel(f"{self.stem}/{j}")
        if panel is None:
            raise InputError(
                f"column {j} of the factor is gone from its store", "run the same command again: it is made anew"
            )
        return torch.from_numpy(panel).to(self.device)

    def put(self, j: int, panel: torch.Tensor) -> None:
        """Keep column ``j``."""
        if self.store is None:
            self._here[j] = panel
        else:
            self.store.put_panel(f"{self.stem}/{j}", panel.cpu().numpy())

    def has(self, j: int) -> bool:
        """Return whether column ``j`` is kept."""
        return j in self._here if self.store is None else self.store.get_panel(f"{self.stem}/{j}") is not None

    def facts(self, block: str) -> dict[str, np.ndarray] | None:
        """Return small arrays kept with the columns."""
        return self.store.get(f"{self.stem}/{block}") if self.store is not None else None

    def keep(self, block: str, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Keep small arrays with the columns, and return them."""
        if self.store is not None:
            self.store.put(f"{self.stem}/{block}", arrays)
        return arrays
