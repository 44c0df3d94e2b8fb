"""Kernels of networks of infinite width, by neural-tangents: convolutions, pooling, and networks of the user's own.

This module imports jax and neural_tangents inside functions only; both are the extra ``ntk``.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prune_cli.core.arrays import FloatArray, IntArray
from prune_cli.core.errors import InputError, UnavailableError
from prune_cli.methods.scores.kernel.kernels import DIAGONAL, KernelBlock
from prune_cli.methods.scores.kernel.rows.contract import Rows

if TYPE_CHECKING:
    import torch

INSTALL = "pip install 'prune-cli[ntk]'   (neural-tangents 0.6.5 with jax<0.6 and tf2jax<0.3.8)"
NETWORKS = ("fc3", "cnn5", "myrtle5")
_EQUAL = 1e-7  # kernels this near 1/2 are of equal rows: what is left is rounding
_SCRATCH = {"cpu": 2**23, "gpu": 2**28}  # bytes that one layer of a batch of pairs may take: the caches', a share of the card's
_FILE = re.compile(r"(.+\.py):([A-Za-z_][A-Za-z_0-9]*)")


@dataclass(frozen=True)
class TangentNetwork:
    """A network of infinite width.

    Args:
        name: as the user typed it.
        kernel: (inputs, inputs) -> its tangent kernel, of all layers.
        flat: whether it takes vectors instead of pictures.
        pairs_of_pixels: whether a layer holds a number for every pair of pixels of a pair of pictures, as pooling needs.
    """

    name: str
    kernel: Callable[[Any, Any], Any]
    flat: bool
    pairs_of_pixels: bool


def user_file(name: str) -> Path | None:
    """Return the file that a network's name says, or None where it is one of ours."""
    found = _FILE.fullmatch(name)
    return Path(found[1]) if found else None


def require() -> None:
    """Raise where neural-tangents, or a version of what it needs that works with it, is missing.

    Raises:
        UnavailableError: the cure is the install line.
    """
    for name, below in (("neural-tangents", None), ("jax", (0, 6)), ("tf2jax", (0, 3, 8))):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            raise UnavailableError(f"kernel=nt needs {name}, which is not installed", INSTALL) from None
        numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
        if below is not None and numbers >= below:
            wanted = ".".join(map(str, below))
            raise UnavailableError(f"kernel=nt needs {name} below {wanted}, and {version} is installed", INSTALL)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else jax takes three quarters of a card at once
    for name, value in (("TF_CPP_MIN_LOG_LEVEL", "2"), ("TF_ENABLE_ONEDNN_OPTS", "0")):
        os.environ.setdefault(name, value)  # TensorFlow comes with it, is not used, and has nothing to say
    with contextlib.suppress(ImportError):
        import triton  # noqa: F401  (it comes with torch for CUDA, and aborts the process when it is loaded after TensorFlow)
    try:
        import neural_tangents  # noqa: F401
    except ImportError as error:
        raise UnavailableError(f"neural-tangents does not import: {error}", INSTALL) from None


def find_network(name: str) -> TangentNetwork:
    """Return the network of a name: one of ours, or ``FILE.py:FUNCTION``.

    ``fc3``: three hidden layers, fully connected. ``cnn5``: five 3 x 3 convolutions, each with ReLU, then flattened. ``myrtle5``: four
    convolutions with 2 x 2 average pooling after the second and third, and the average of all pixels at the end.

    A function of the user's returns what ``neural_tangents.stax.serial`` does, or the kernel function alone. The file runs as Python
    code, with all its rights: it is loaded only when it was named.

    Raises:
        InputError: no such network, file or function, or it returns something else.
        UnavailableError: the extra is missing.
    Source:
        Novak et al., ICLR 2020, arXiv:1912.02803 (neural-tangents); Shankar et al., ICML 2020, arXiv:2003.02237 (Myrtle).
    """
    path = user_file(name)
    if path is None and name not in NETWORKS:
        raise InputError(
            f"unknown network 'nt:{name}'",
            f"use {', '.join(f'nt:{n}' for n in NETWORKS)}, or nt:FILE.py:FUNCTION for a network of your own",
        )
    if path is not None and not path.is_file():
        raise InputError(f"kernel=nt:{name}: there is no file {path}", "name it as nt:FILE.py:FUNCTION")
    require()
    kernel_fn = _of_ours(name) if path is None else _of_file(name.rpartition(":")[2], path)
    return TangentNetwork(name, lambda left, right: kernel_fn(left, right, "ntk"), name == "fc3", path is not None or name == "myrtle5")


def _of_ours(name: str) -> Any:
    """Return the kernel function of one of `NETWORKS`."""
    from neural_tangents import stax

    gain = 2.0**0.5

    dense, pool = [stax.Dense(1, gain), stax.Relu()], stax.AvgPool((2, 2), strides=(2, 2))
    convolution = [stax.Conv(1, (3, 3), W_std=gain, padding="SAME"), stax.Relu()]
    layers = {
        "fc3": 3 * dense,
        "cnn5": [*5 * convolution, stax.Flatten()],
        "myrtle5": [*2 * convolution, pool, *convolution, pool, *convolution, stax.GlobalAvgPool()],
    }[name]
    return stax.serial(*layers, stax.Dense(1, gain))[2]


def _of_file(function: str, path: Path) -> Any:
    """Return the kernel function that a function in a file of the user's makes."""
    spec = importlib.util.spec_from_file_location(f"prune_network_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is no Python file", "name a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        made = getattr(module, function)()
    except AttributeError as error:
        raise InputError(f"{path}: {error}", f"define {function}(), which returns a stax network") from None
    except Exception as error:
        raise InputError(f"{path}: {type(error).__name__}: {error}", f"check it: python {path}") from error
    kernel_fn = made[2] if isinstance(made, tuple) and len(made) == 3 else made
    if not callable(kernel_fn):
        raise InputError(f"{path}: {function}() returns {type(made).__name__}", "return what neural_tangents.stax.serial(...) returns")
    return kernel_fn


class TangentKernel:
    """The tangent kernel of a network, divided by the lengths of both samples: 1/2 on its diagonal.

    Args:
        rows: the samples; a network that takes pictures sees them standardised, one that takes vectors sees unit rows.
        network: see `find_network`.
        shape: of a picture, height, width, channels; None for vectors.
    Raises:
        InputError: a network for pictures, and vectors.
    """

    def __init__(self, rows: Rows, network: TangentNetwork, shape: tuple[int, int, int] | None) -> None:
        from jax import default_backend, jit

        if shape is None and network.name in NETWORKS and not network.flat:
            raise InputError(f"nt:{network.name} is a network for pictures, and these are vectors", "use relu, relu:L or nt:fc3")
        self.rows, self._shape, self.network = rows, None if network.flat else shape, network
        self._kernel = jit(network.kernel)
        self.lengths_n = np.full(rows.n_samples, np.nan)
        """Square roots of the network's kernel of each sample with itself, once they are known."""
        pixels = 1 if self._shape is None else self._shape[0] * self._shape[1]
        numbers = pixels**2 if network.pairs_of_pixels else pixels
        scratch = _SCRATCH.get(default_backend(), _SCRATCH["gpu"])
        self.batch = int(min(256, rows.n_samples, max(2, (scratch / 8 / numbers) ** 0.5)))

    @property
    def n_samples(self) -> int:
        return self.rows.n_samples

    def block(self, positions: IntArray, dtype: torch.dtype, device: torch.device) -> KernelBlock:
        missing = np.unique(positions[np.isnan(self.lengths_n[positions])])
        for first in range(0, len(missing), self.batch):
            here = missing[first : first + self.batch]
            inputs = self.inputs(here)
            self.lengths_n[here] = np.sqrt(np.diagonal(self.values(inputs, inputs)))
        return _TangentBlock(self, positions)

    def inputs(self, positions: IntArray) -> FloatArray:
        """Return (B, D) or (B, H, W, C) float64: what the network sees."""
        if self._shape is not None:
            return self.rows.standardised(positions).reshape(-1, *self._shape)
        import torch

        return np.asarray(self.rows.unit(positions, torch.float64, torch.device("cpu")).numpy())

    def values(self, left: FloatArray, right: FloatArray) -> FloatArray:
        """Return the network's kernel of two sets of inputs, float64, in batches of one size so that it is compiled once."""
        from jax.experimental import enable_x64

        out = np.empty((len(left), len(right)))
        with enable_x64():
            for top in range(0, len(left), self.batch):
                ours = _padded(left[top : top + self.batch], self.batch)
                for first in range(0, len(right), self.batch):
                    theirs = _padded(right[first : first + self.batch], self.batch)
                    part = out[top : top + self.batch, first : first + self.batch]
                    part[:] = np.asarray(self._kernel(ours, theirs))[: part.shape[0], : part.shape[1]]
        return out


class _TangentBlock:
    def __init__(self, kernel: TangentKernel, positions: IntArray) -> None:
        self._kernel, self._positions = kernel, positions

    def load(self, part: slice) -> tuple[FloatArray, FloatArray]:
        positions = self._positions[part]
        return self._kernel.inputs(positions), self._kernel.lengths_n[positions]

    def tile(self, left: tuple[FloatArray, FloatArray], right: tuple[FloatArray, FloatArray], out: torch.Tensor) -> None:
        import torch

        values = self._kernel.values(left[0], right[0])
        values *= DIAGONAL / left[1][:, None]
        values /= right[1]
        values[values >= DIAGONAL - _EQUAL] = DIAGONAL
        out.copy_(torch.from_numpy(values))


def _padded(inputs: FloatArray, size: int) -> FloatArray:
    """Return the inputs with the last one repeated up to that many."""
    return inputs[np.minimum(np.arange(size), len(inputs) - 1)]
