"""What training reads: pictures or vectors, in memory or streamed, normalised, and the batches cut from them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

STATISTICS_SAMPLES = 16_384
"""Most samples that the mean and standard deviation are taken from; enough for four digits of either."""

_STATISTICS_BLOCK = 64  # samples at a time


def channel_statistics(inputs: Inputs, order_m: IntArray, workers: int) -> tuple[FloatArray, FloatArray]:
    """Return the mean and the standard deviation of each channel (pictures) or feature (vectors).

    Up to `STATISTICS_SAMPLES` samples all are taken, above that as many, evenly spaced in the canonical order: in
    memory or streamed, and whatever the order of the rows, the numbers are the same.

    Args:
        order_m: (M,) positions in canonical order.
    Returns:
        Two (C,) or (D,) float64 arrays, pictures in units of the full scale (0 to 1); a deviation of 0 becomes 1.
    """
    m = len(order_m)
    n_taken = min(m, STATISTICS_SAMPLES)
    positions = order_m[np.arange(n_taken) * m // n_taken]
    blocks = np.array_split(positions, -(-n_taken // _STATISTICS_BLOCK))
    if isinstance(inputs, np.ndarray) and inputs.ndim == 2:
        mean = sum(inputs[block].sum(axis=0, dtype=np.float64) for block in blocks) / n_taken
        std = np.sqrt(sum(((inputs[block] - mean) ** 2).sum(axis=0) for block in blocks) / n_taken)
    else:
        channels = inputs.shape[-1]
        counts = np.zeros((channels, 256), dtype=np.int64)
        for pictures in picture_blocks(inputs, blocks, workers):
            for channel in range(channels):
                counts[channel] += np.bincount(pictures[..., channel].ravel(), minlength=256)
        levels = np.arange(256) / 255.0
        shares = counts / counts.sum(axis=1, keepdims=True)
        mean = shares @ levels
        std = np.sqrt((shares * (levels - mean[:, None]) ** 2).sum(axis=1))
    return mean, np.where(std > 1e-6 * np.abs(mean), std, 1.0)  # below that it is rounding


def input_preparation(input_shape: tuple[int, ...], mean: FloatArray, std: FloatArray, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return the function from a batch as `input_batches` yields it to what a network takes, normalised.

    Args:
        input_shape: (H, W, C) or (D,).
        mean, std: as `channel_statistics` gives them.
    """
    import torch

    full_scale = 255.0 if len(input_shape) == 3 else 1.0
    mean_c = torch.tensor(mean * full_scale, dtype=torch.float32, device=device)
    scale_c = torch.tensor(1.0 / (std * full_scale), dtype=torch.float32, device=device)
    if len(input_shape) == 3:
        return lambda images_bhwc: normalize(images_bhwc, mean_c, scale_c)
    return lambda vectors_bd: (vectors_bd - mean_c).mul_(scale_c)


def normalize(images_bhwc: Tensor, mean_c: Tensor, scale_c: Tensor) -> Tensor:
    """Return (pixel - mean) * scale as (B, C, H, W) float32, laid out channels-last.

    Args:
        images_bhwc: (B, H, W, C) uint8, or float32 in 0 to 255.
        mean_c: (C,) float32 in 0 to 255.
        scale_c: (C,) float32, one over the standard deviation.
    """
    import torch

    pixels = images_bhwc.to(torch.float32) - mean_c
    return pixels.mul_(scale_c).permute(0, 3, 1, 2)


IntArray: TypeAlias = NDArray[np.int64]
FloatArray: TypeAlias = NDArray[np.float64]

_PREFETCH = 2  # batches ready or under way in each worker process


class ImageSource(Protocol):
    """Pictures of one size that are decoded when they are asked for; picklable, since worker processes do the work."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Return (M, H, W, C)."""

    def take(self, positions: IntArray) -> NDArray[np.uint8]:
        """Return the pictures at these positions in this order, (B, H, W, C) uint8."""


Inputs: TypeAlias = NDArray[Any] | ImageSource
"""(M, H, W, C) uint8 pictures or (M, D) float32 vectors in memory, or pictures that are streamed."""


@dataclass(frozen=True)
class TrainingSet:
    """What is trained on: M samples, selected from a data set of N.

    Args:
        inputs: see `Inputs`; finite.
        labels_m: (M,) int64 class codes, 0 to C - 1.
        ranks_m: (M,) int64, the place of each sample in the canonical order (by id) of the whole data set, 0 to N - 1
            and no two the same. Shuffles go by rank: the order of the rows changes nothing, and two selections of one
            data set share their shuffles.
        n_ranks: N.
        n_classes: C.
    Raises:
        InputError: shapes or types that do not fit, a label or a rank out of range, fewer than 2 samples.
    """

    inputs: Inputs
    labels_m: IntArray
    ranks_m: IntArray
    n_ranks: int
    n_classes: int

    def __post_init__(self) -> None:
        check_inputs(self.inputs)
        m = len(self)
        if m < 2:
            raise InputError(f"{m} sample(s) to train on", "select 2 or more")
        for name, array, end in (("label", self.labels_m, self.n_classes), ("rank", self.ranks_m, self.n_ranks)):
            if array.shape != (m,) or array.dtype != np.int64:
                raise InputError(f"{name}s are {array.dtype} {array.shape}, not int64 ({m},)", "give one a sample")
            if array.min() < 0 or array.max() >= end:
                raise InputError(f"{name}s reach from {array.min()} to {array.max()}", f"give 0 to {end - 1}")
        if len(np.unique(self.ranks_m)) != m:
            raise InputError("two samples have the same rank", "give each its place in the order of the ids")

    def __len__(self) -> int:
        return int(self.inputs.shape[0])

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Return (H, W, C) of the pictures or (D,) of the vectors."""
        return tuple(self.inputs.shape[1:])

    def order_m(self) -> IntArray:
        """Return the positions of the samples in canonical order."""
        return np.argsort(self.ranks_m)


def check_inputs(inputs: Inputs) -> None:
    """Say what is wrong with the shape or type of inputs.

    Raises:
        InputError: neither (M, H, W, C) uint8 nor (M, D) float32.
    """
    kind = inputs.dtype if isinstance(inputs, np.ndarray) else np.dtype(np.uint8)
    if (len(inputs.shape), kind) not in {(4, np.dtype(np.uint8)), (2, np.dtype(np.float32))}:
        raise InputError(f"inputs are {kind} {tuple(inputs.shape)}", "give (M, H, W, C) uint8 pictures or (M, D) float32 vectors")


def input_batches(inputs: Inputs, positions: Iterable[IntArray], device: torch.device, workers: int) -> Generator[Tensor, None, None]:
    """Yield the inputs at each array of positions as a tensor on the device, (B, H, W, C) uint8 or (B, D) float32.

    In memory the whole set lies on the device and is indexed there (on a CUDA device if it takes at most half of the
    free memory). A stream is decoded ahead by worker processes, in order, whatever their number.
    """
    import torch

    def to_device(batch: Tensor) -> Tensor:
        on_host = device.type == "cuda" and not batch.is_cuda
        return batch.pin_memory().to(device, non_blocking=True) if on_host else batch

    if not isinstance(inputs, np.ndarray):
        for pictures in _decode_ahead(inputs, positions, workers):
            yield to_device(torch.from_numpy(pictures))
        return
    everything = as_tensor(inputs)
    if device.type == "cuda" and inputs.nbytes <= torch.cuda.mem_get_info(device)[0] // 2:
        everything = everything.to(device)
    for chosen in positions:
        index = torch.from_numpy(chosen).to(everything.device, non_blocking=True)
        yield to_device(everything.index_select(0, index))


def picture_blocks(inputs: Inputs, positions: Iterable[IntArray], workers: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the pictures at each array of positions, (B, H, W, C) uint8 in memory."""
    if isinstance(inputs, np.ndarray):
        return (inputs[block] for block in positions)
    return _decode_ahead(inputs, positions, workers)


def as_tensor(array: NDArray[Any]) -> Tensor:
    """Return a tensor that shares the array's memory, which is only read: a read-only array will do."""
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(array))


class _Decoder:
    """The data set as torch's loader sees it: an index is an array of positions, an item their pictures.

    Pictures go back as arrays through a pipe, not as tensors in shared memory, which containers keep small. An error
    goes back as a value, so that the user reads it as it was raised and not inside a worker's traceback.
    """

    def __init__(self, source: ImageSource) -> None:
        self.source = source

    def __getitem__(self, positions: IntArray) -> NDArray[np.uint8] | Exception:
        try:
            return self.source.take(positions)
        except Exception as error:
            return error


def _decode_ahead(source: ImageSource, positions: Iterable[IntArray], workers: int) -> Iterator[NDArray[np.uint8]]:
    import torch
    from torch.utils.data import DataLoader

    loader: Any = DataLoader(
        _Decoder(source),  # type: ignore[arg-type]
        sampler=positions,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=_PREFETCH,
        collate_fn=_unchanged,
        worker_init_fn=_leave_signals_to_parent,
        multiprocessing_context="fork" if sys.platform == "linux" else None,
        generator=torch.Generator().manual_seed(0),
    )
    for item in loader:
        if isinstance(item, Exception):
            raise item
        yield item


def _unchanged(item: Any) -> Any:
    return item


def _leave_signals_to_parent(worker: int) -> None:
    """Ctrl-C and SIGTERM reach the whole process group: the parent decides, the workers go on until it is done."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
