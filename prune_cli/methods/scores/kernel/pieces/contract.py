"""What scores of kernels are made of: pieces, each of blocks that need nothing of one another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeAlias, TypeVar

from numpy.typing import NDArray

from prune_cli.core.progress import Progress
from prune_cli.engines.engine import Arrays, Block
from prune_cli.methods.scores.kernel.kernels import ReluKernel
from prune_cli.methods.scores.kernel.samples import Samples
from prune_cli.methods.scores.kernel.sides import SidesResult
from prune_cli.methods.scores.kernel.solver.problem import SetResult, Solution, item_size
from prune_cli.methods.scores.kernel.solver.tile_columns import PanelStore

_Of = TypeVar("_Of")
KernelName: TypeAlias = tuple[str, bool]
"""Which kernel: its name, and whether the mean is subtracted."""


class Settings(NamedTuple):
    """How blocks are computed; as `kernel_solution` takes them."""

    seed: int = 0
    device: str = "auto"
    precision: str = "auto"

    @property
    def dtype(self) -> str:
        """Return the name of the dtype that the kernel is factored in."""
        return "float64" if item_size(self.precision) == 8 else "float32"


@dataclass(frozen=True)
class Piece(ABC):
    """Blocks of one kernel that need nothing of one another.

    Args:
        kernel: which.
    """

    kernel: KernelName

    vectors: ClassVar[tuple[str, ...]]
    """Fields of a block's result with a number of each sample."""
    matrix: ClassVar[str | None]
    """The field with several numbers of each sample, None where there is none."""

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return what its blocks depend on beside the samples and the settings."""

    @property
    def apart(self) -> bool:
        """Return whether a block takes less than all samples, so that it may be computed elsewhere."""
        return True

    @abstractmethod
    def block_names(self, codes_n: NDArray[Any]) -> list[str]:
        """Return the names of the blocks, in their order."""

    @abstractmethod
    def compute(self, samples: Samples, settings: Settings, store: PanelStore | None, progress: Progress) -> Callable[[int], Arrays]:
        """Return what computes a block, by its number, in this process and with all its threads."""

    @abstractmethod
    def pack(
        self, samples: Samples, kernel: ReluKernel, numbers: Sequence[int], settings: Settings, progress: Progress
    ) -> tuple[str, list[Block]]:
        """Return the function and the blocks that an engine is handed; ``kernel`` is that of the samples."""

    @abstractmethod
    def results(self, blocks: Sequence[Arrays]) -> Sequence[SidesResult | SetResult]:
        """Return what the blocks found."""

    @abstractmethod
    def combine(self, blocks: Sequence[Arrays], codes_n: NDArray[Any], n_classes: int) -> Solution:
        """Return what all blocks say of each sample."""

    @abstractmethod
    def cost(self, codes_n: NDArray[Any], n_features: int, n_classes: int, dtype: str, itemsize: int) -> dict[str, Any]:
        """Return flops, bytes in memory and on disk, how many blocks there are, and the rows of the largest."""

    @abstractmethod
    def words(self, dtype: str) -> str:
        """Return how it is computed, for ``--plan``."""


def later(gather: Callable[[_Of], Arrays], of: _Of) -> Callable[[], Arrays]:
    """Return what gathers one of several, when it is called."""
    return lambda: gather(of)
