"""How fast this machine is, measured for estimates alone.

This module imports torch inside functions only.
"""

from __future__ import annotations

import time


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
