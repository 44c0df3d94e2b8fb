"""A column of images: a reason for every bad row, the same bytes for any number of workers."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pictures import HF, encode, noise, some_images, source

from prune_cli.core.errors import InputError
from prune_cli.io.images import column
from prune_cli.io.images.chunks import image_chunks
from prune_cli.io.images.column import decode_images, measure_images
from prune_cli.io.images.decoding import ImageSettings, decode_image


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_binary_columns(kind: pa.DataType) -> None:
    """Every kind of binary, in batches, with a slice, an empty batch and a null."""
    pictures = some_images(7)
    data = [encode(picture) for picture in pictures]
    first = pa.array([b"x", *data[:3]], kind).slice(1)
    decoded = decode_images(source(first, pa.array([], kind), pa.array([*data[3:], None], kind)), 8)
    assert np.array_equal(decoded.images_nhwc[:7, :, :, 0], pictures)
    assert decoded.bad == [(7, None, "no image")] and not decoded.images_nhwc[7].any()


def test_hugging_face_struct(folder: Path) -> None:
    """Bytes where there are any, else the path; the path stands beside a bad row; null and empty are bad."""
    seven, nine = encode(np.array([[7]], np.uint8)), encode(np.array([[9]], np.uint8))
    rows = [
        {"bytes": nine, "path": "name-only.png"},
        {"bytes": None, "path": "deep/a.png"},
        {"bytes": b"broken", "path": "broken.png"},
        None,
        {"bytes": None, "path": None},
        {"bytes": seven, "path": None},
        {"bytes": None, "path": "../secret.png"},
    ]
    decoded = decode_images(source(rows[:3], rows[3:], kind=HF), 7, ImageSettings(root=folder))
    assert decoded.images_nhwc[:, 0, 0, 0].tolist() == [9, 7, 0, 0, 0, 7, 0]
    assert [(row.position, row.path) for row in decoded.bad] == [(2, "broken.png"), (3, None), (4, None), (6, "../secret.png")]
    assert "leads outside" in decoded.bad[3].reason


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_path_columns(kind: pa.DataType, folder: Path) -> None:
    """Paths under the root, as plain text or dictionary."""
    paths = pa.array(["deep/a.png", "deep/gone.png", "deep/a.png", None], pa.string()).cast(kind)
    decoded = decode_images(source(paths), 4, ImageSettings(root=folder))
    assert decoded.images_nhwc[:, 0, 0, 0].tolist() == [7, 0, 7, 0]
    assert decoded.bad == [(1, "deep/gone.png", "'deep/gone.png': no such file or directory"), (3, None, "no image")]


def test_a_path_that_is_not_utf8(folder: Path) -> None:
    """Arrow does not look; the file is found by its bytes, and a bad row shows what can be shown."""
    (folder / os.fsdecode(b"\xe9.png")).write_bytes((folder / "deep" / "a.png").read_bytes())
    column = pa.array([b"\xe9.png", b"\xff.png"], pa.binary()).view(pa.string())
    decoded = decode_images(source(column), 2, ImageSettings(root=folder))
    assert decoded.images_nhwc[0].tolist() == [[[7]]]
    assert decoded.bad == [(1, "\ufffd.png", "'\\udcff.png': no such file or directory")]


def test_a_column_of_something_else() -> None:
    """Numbers are no images, nor is a struct without bytes and path."""
    for kind, values in ((pa.int64(), [1, 2]), (pa.struct([("x", pa.binary())]), [{"x": b""}])):
        with pytest.raises(InputError, match="holds no images"):
            decode_images(source(values, kind=kind), len(values))


@pytest.mark.parametrize("channels", [1, 3])
def test_any_number_of_workers_gives_the_same(channels: int, started: list[Any], folder: Path) -> None:
    """Pixels, bad rows and their order; here, and in two and three processes."""
    data: list[Any] = [{"bytes": encode(p, "JPEG" if i % 3 else "PNG"), "path": str(i)} for i, p in enumerate(some_images(60, channels))]
    for place in (0, 11, 37, 59):
        data[place] = {"bytes": b"\x89PNG\r\n\x1a\nno", "path": f"bad-{place}"}
    data[20] = None
    results = [decode_images(source(data[:33], data[33:], kind=HF), 60, ImageSettings(root=folder), workers=w) for w in (1, 2, 3)]
    assert len(started) == 5
    assert [row.position for row in results[0].bad] == [0, 11, 20, 37, 59]
    for result in results[1:]:
        assert result.images_nhwc.tobytes() == results[0].images_nhwc.tobytes()
        assert result.bad == results[0].bad
    for position in (1, 36, 58):
        assert np.array_equal(results[0].images_nhwc[position], decode_image(data[position]["bytes"]))
    assert all(process.poll() is not None for process in started)


@pytest.mark.parametrize(("microseconds", "processes"), [(50, 0), (500, 4)])
def test_nothing_little_starts_a_process(microseconds: int, processes: int, started: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """2,000 small images are decoded here, whatever number of workers is allowed; 1 s of work is shared by four."""
    ticks = itertools.count(0.0, 32e-6 * microseconds)  # a chunk of 32 rows takes a tick
    monkeypatch.setattr(column, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    monkeypatch.setattr(column, "_FIRST_ROWS", 32)
    monkeypatch.setattr(column, "_CHUNK_ROWS", 32)
    monkeypatch.setattr(column, "_WORKERS_PAY", 0.3)
    data = [encode(picture) for picture in some_images(50)] * 40
    assert not decode_images(source(data), 2000, workers=8).bad
    assert len(started) == processes


@pytest.mark.parametrize("workers", [1, 2])
def test_colour_after_grey_makes_everything_rgb(workers: int, started: list[Any]) -> None:
    """Begun anew once; grey rows are repeated over the channels."""
    grey, colour = some_images(30), some_images(1, 3)[0]
    data = [encode(picture) for picture in grey]
    data[23] = encode(colour)
    begun = []

    def batches() -> Iterator[pa.Array]:
        begun.append(True)
        return source(data[:10], data[10:])()

    told: list[int] = []
    decoded = decode_images(batches, 30, workers=workers, progress=lambda task, done, n, facts=None: told.append(done))
    assert workers > 1 or max(told[: told.index(2, 1)]) < 30  # the first time it stopped at the colour
    assert decoded.images_nhwc.shape == (30, 6, 5, 3) and len(begun) == 3 and not decoded.bad
    assert np.array_equal(decoded.images_nhwc[23], colour)
    assert np.array_equal(decoded.images_nhwc[22], np.repeat(grey[22][:, :, None], 3, axis=2))
    kept = decode_images(source(data), 30, ImageSettings(channels=1), workers=workers)
    assert kept.images_nhwc.shape == (30, 6, 5, 1)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("coloured", [False, True])
def test_images_that_differ_in_size(workers: int, coloured: bool, started: list[Any]) -> None:
    """One error, the same for any number of workers: the first good image, the first that differs, the cure."""
    data = [encode(picture) for picture in some_images(40)]
    data[0] = b"broken"
    data[17] = encode(noise(9, 4, 1))
    data[30] = encode(noise(3, 3, 1))
    if coloured:
        data[16] = encode(noise(6, 5, 3))
    with pytest.raises(InputError) as caught:
        decode_images(source(data), 40, workers=workers, name_row=lambda row: f"image-{row}")
    assert caught.value.message == "images differ in size: image-1 is 6 x 5 (height x width), image-17 is 9 x 4"
    assert caught.value.cure is not None and "--image-size 32" in caught.value.cure
    sized = decode_images(source(data), 40, ImageSettings(size=(4, 8)), workers=workers)
    assert sized.images_nhwc.shape == (40, 4, 8, 3 if coloured else 1) and len(sized.bad) == 1
    assert np.array_equal(sized.images_nhwc[17], decode_image(data[17], ImageSettings(size=(4, 8)), 3 if coloured else 1))


def test_all_rows_bad() -> None:
    """An empty array and every reason."""
    decoded = decode_images(source([b"", None, b"x"]), 3)
    assert decoded.images_nhwc.shape == (3, 0, 0, 1) and len(decoded.bad) == 3
    assert decode_images(source(), 0).images_nhwc.shape == (0, 0, 0, 1)


def test_measure_and_memory_limit() -> None:
    """The first good image tells the shape; an array over the limit is refused before it is made."""
    data = [b"", *(encode(picture) for picture in some_images(9, 3))]
    assert measure_images(source(data), ImageSettings()) == (6, 5, 3)
    assert measure_images(source(data), ImageSettings(size=(2, 2), channels=1)) == (2, 2, 1)
    assert measure_images(source([b""]), ImageSettings()) is None
    assert decode_images(source(data), 10, memory_limit=900).images_nhwc.nbytes == 900
    with pytest.raises(InputError, match="take 900 B, more than the 899 B"):
        decode_images(source(data), 10, memory_limit=899)


def test_rows_are_counted() -> None:
    """Another number of rows than was said is a defect of the caller; nothing is written past the end."""
    data = [encode(picture) for picture in some_images(4)]
    for n in (3, 5):
        with pytest.raises(ValueError, match="hold"):
            decode_images(source(data), n)


def test_progress_reaches_the_end(started: list[Any]) -> None:
    """Told after every chunk, up to all rows."""
    told: list[tuple[int, int]] = []
    data = [encode(picture) for picture in some_images(30)]
    decode_images(source(data), 30, workers=2, progress=lambda task, done, total, facts=None: told.append((done, total)))
    assert told == sorted(told) and told[-1] == (30, 30)


def test_chunks_are_bounded() -> None:
    """8 MiB at most, but for one row that is larger; a column is never copied."""
    sizes = [3 << 20, 3 << 20, 3 << 20, 20 << 20, 1, 1]
    batch = pa.array([bytes(size) for size in sizes], pa.binary())
    chunks = list(image_chunks([batch], lambda: 100))
    assert [len(c) for c in chunks] == [2, 1, 1, 2] and [c.first for c in chunks] == [0, 2, 3, 4]
    assert sum(len(c.data) for c in chunks) == sum(sizes)
    assert [len(c) for c in image_chunks([batch.slice(4)] * 3, lambda: 1)] == [1] * 6
