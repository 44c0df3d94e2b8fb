"""Images that stay encoded are those that are decoded at once."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pictures import HF, encode, noise, some_images, source

from prune_cli.core.errors import InputError
from prune_cli.io.images.column import decode_images
from prune_cli.io.images.decoding import ImageSettings
from prune_cli.io.images.spool import spool_images


@pytest.mark.parametrize("workers", [1, 2])
def test_spooled_images_are_the_decoded_ones(workers: int, started: list[Any], folder: Path, tmp_path: Path) -> None:
    """Any order, with repeats, after a pickle, bytes and paths alike; bad rows are found at once and are zeros."""
    rows: list[Any] = [{"bytes": encode(p), "path": None} for p in some_images(40)]
    rows[5] = None
    rows[6] = {"bytes": b"broken", "path": "six"}
    rows[7] = {"bytes": None, "path": "deep/a.png"}
    rows[30] = {"bytes": encode(noise(12, 9, 3), "JPEG"), "path": None}
    settings = ImageSettings(root=folder, size=(4, 4))
    decoded = decode_images(source(rows, kind=HF), 40, settings)
    encoded, bad = spool_images(source(rows[:9], rows[9:], kind=HF), 40, settings, tmp_path, workers=workers)
    assert bad == decoded.bad and encoded.shape == decoded.images_nhwc.shape == (40, 4, 4, 3) and len(encoded) == 40
    order = np.array([7, 39, 0, 0, 6, 30, 5, 7])
    assert np.array_equal(encoded.take(order), decoded.images_nhwc[order])
    copy = pickle.loads(pickle.dumps(encoded))  # noqa: S301 -- our own
    assert np.array_equal(copy.take(np.arange(40)), decoded.images_nhwc)
    assert copy.take(np.array([], dtype=np.int64)).shape == (0, 4, 4, 3)
    for outside in (40, -1):
        with pytest.raises(IndexError):
            encoded.take(np.array([outside]))


def test_spooled_images_of_one_size(tmp_path: Path) -> None:
    """Without a size given they keep theirs, grey stays grey, and one that differs is the same error."""
    pictures = some_images(6)
    data = [encode(picture) for picture in pictures]
    encoded, bad = spool_images(source(data), 6, None, tmp_path)
    assert encoded.shape == (6, 6, 5, 1) and not bad
    assert np.array_equal(encoded.take(np.arange(6))[:, :, :, 0], pictures)
    with pytest.raises(InputError, match=r"row 0 is 6 x 5 .* row 6 is 3 x 3"):
        spool_images(source([*data, encode(noise(3, 3, 1))]), 7, None, tmp_path)
    nothing, bad = spool_images(source([b"", None]), 2, None, tmp_path)
    assert nothing.shape == (2, 0, 0, 1) and len(bad) == 2 and nothing.take(np.array([1])).shape == (1, 0, 0, 1)


def test_a_file_that_goes_away_after_spooling(folder: Path, tmp_path: Path) -> None:
    """An error that says so, not zeros."""
    encoded, _ = spool_images(source(["deep/a.png"], kind=pa.string()), 1, ImageSettings(root=folder), tmp_path)
    (folder / "deep" / "a.png").unlink()
    with pytest.raises(InputError, match=r"position 0 could be read before and cannot now: 'deep/a.png'"):
        encoded.take(np.array([0]))
