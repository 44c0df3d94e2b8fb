"""Devices and dtypes: what ``--device`` and ``--precision`` mean to torch, and how fast this machine is.

This module imports torch inside functions only.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prune_cli.core.errors import InputError, UnavailableError

if TYPE_CHECKING:
    import numpy as np
    import torch


def product_rate(dtype: str, device: str) -> float:
    """Return flops a second of a matrix product in that precision on a torch device, a quarter less."""
    import torch

    left = torch.ones((1024, 1024), dtype=getattr(torch, dtype), device=device)
    float((left @ left)[0, 0])
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < 0.2:
        float((left @ left)[0, 0])
        count += 1
    return 0.75 * count * 2 * 1024**3 / (time.perf_counter() - start)


_ONE_AT_A_TIME = threading.Lock()
"""Held while the filters of warnings are others: they are those of all threads."""


def resolve_device(name: str) -> torch.device:
    """Return the torch device of ``auto`` (CUDA where there is one, else CPU), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        InputError: not the name of a device.
        UnavailableError: a CUDA device that is not there.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in {"cpu", "cuda"} or (number and not number.isdigit()):
        raise InputError(f"--device {name!r} is not a device", "use auto, cpu, cuda or cuda:1")
    if kind == "cuda" and (not torch.cuda.is_available() or int(number or 0) >= torch.cuda.device_count()):
        raise UnavailableError(
            f"--device {name}: torch {torch.__version__} finds {torch.cuda.device_count()} CUDA device(s)",
            "use --device cpu, or pip install torch built for this machine's driver (https://pytorch.org)",
        )
    return torch.device(name)


def device_name(name: str) -> str:
    """Return what provenance says of a device: ``cpu``, or the name of the CUDA card."""
    import torch

    device = resolve_device(name)
    return "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)


def free_memory(name: str) -> int | None:
    """Return the bytes that are free on a CUDA device; None on a CPU, whose memory is the machine's."""
    import torch

    device = resolve_device(name)
    return None if device.type == "cpu" else int(torch.cuda.mem_get_info(device)[0])


def visible_cards(name: str) -> tuple[str, ...]:
    """Return the CUDA cards that processes may take one each of, as CUDA_VISIBLE_DEVICES names them.

    Returns:
        Nothing on a CPU, and where one card was named.
    """
    import torch

    if resolve_device(name).type == "cpu" or ":" in name:
        return ()
    named = [card.strip() for card in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if card.strip()]
    return tuple(named or map(str, range(torch.cuda.device_count())))


def tensor_of(values: np.ndarray) -> torch.Tensor:
    """Return an array as a tensor of the same memory, which is only read: what came from elsewhere may be protected."""
    import torch

    if values.flags.writeable:
        return torch.from_numpy(values)
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(values)


@contextlib.contextmanager
def numba_threads() -> Iterator[None]:
    """Run numba's parallel loops on as many threads as torch has, and leave torch with as many as before.

    The two may share one OpenMP library; numba's first parallel loop then sets the number of threads for both, to that of
    the cores, whatever OMP_NUM_THREADS says.
    """
    import numba
    import torch

    of_torch, of_numba = torch.get_num_threads(), numba.get_num_threads()
    numba.set_num_threads(min(of_torch, of_numba))
    try:
        yield
    finally:
        numba.set_num_threads(of_numba)
        torch.set_num_threads(of_torch)
