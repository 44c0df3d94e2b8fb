"""Pictures that tests make, and columns of them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

HF = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def encode(picture: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """Return a file with this picture."""
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def noise(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    """Return a random picture."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def some_images(n: int, channels: int = 1) -> list[np.ndarray]:
    """Return n different pictures."""
    return [noise(6, 5, channels, seed) for seed in range(n)]


def source(*batches: Any, kind: pa.DataType | None = None) -> Callable[[], Iterator[pa.Array]]:
    """Return what iterates over these batches as a Parquet column would."""
    arrays = [batch if isinstance(batch, pa.Array) else pa.array(batch, kind or pa.binary()) for batch in batches]
    return lambda: iter(arrays)
