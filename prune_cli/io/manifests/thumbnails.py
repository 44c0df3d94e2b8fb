"""Small pictures of some rows, for a page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np

from prune_cli.io.images.chunks import image_chunks
from prune_cli.io.images.decoding import BadImage, encoded_bytes, read_picture
from prune_cli.io.manifests.data import Dataset

SIDE = 64
"""Longest side of a thumbnail in pixels; smaller pictures stay as they are."""


@dataclass(frozen=True)
class Thumbnail:
    """One small picture.

    Args:
        uri: the picture as a ``data:`` address, or empty where it cannot be read.
        reason: why it cannot be read.
    """

    uri: str
    width: int = 0
    height: int = 0
    reason: str = ""


def thumbnails(dataset: Dataset, rows: Sequence[int], side: int = SIDE) -> dict[int, Thumbnail]:
    """Return a thumbnail of each row, WebP, by position.

    Args:
        rows: positions, in any order, each once.
        side: longest side in pixels.
    Cost:
        Reads the row groups that the rows are in; about 2 KB a thumbnail of photographs at most.
    """
    positions = np.sort(np.asarray(rows, np.int64))
    if not len(positions):
        return {}
    settings = dataset.image_settings()
    found: dict[int, Thumbnail] = {}
    for chunk in image_chunks(dataset.image_batches(positions), lambda: 512):
        for row in range(len(chunk)):
            try:
                data = encoded_bytes(chunk.encoded(row), settings.root, settings.max_pixels)
                made = _small(data, settings.max_pixels, side)
            except BadImage as reason:
                made = Thumbnail("", reason=str(reason))
            found[int(positions[chunk.first + row])] = made
    return found


def _small(data: bytes, max_pixels: int, side: int) -> Thumbnail:
    picture = read_picture(data, max_pixels)
    if max(picture.size) > side:
        picture.thumbnail((side, side))
    buffer = BytesIO()
    picture.convert("RGB").save(buffer, "WEBP", quality=60, method=4)
    coded = base64.b64encode(buffer.getvalue()).decode()
    return Thumbnail(f"data:image/webp;base64,{coded}", *picture.size)
