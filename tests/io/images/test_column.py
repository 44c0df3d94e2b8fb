"""Images: pixels by hand for every kind, a reason for every bad row, the same bytes for any number of workers."""

from __future__ import annotations

import gc
import io
import itertools
import os
import pickle
import signal
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from prune_cli.core.errors import InputError, PruneError
from prune_cli.io.images.column import chunks as image_chunks
from prune_cli.io.images.column import column as images
from prune_cli.io.images.column import decode_images, decoding, measure_images, png_batch, spool_images
from prune_cli.io.images.column import workers as decode_workers
from prune_cli.io.images.decoding import BadImage, ImageSettings, decode_image, fit_picture, read_picture

ROOT = Path(__file__).resolve().parents[3]
LIMIT = 100_000_000
WHITE = [255, 255, 255]


def encode(picture: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """Return a file with this picture."""
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    """Return one PNG chunk."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes, interlace: int = 0) -> bytes:
    """Return a PNG made by hand; every row begins with its filter byte."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + b"".join(extra)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def pixels(data: bytes, **settings: Any) -> list[Any]:
    """Return what is decoded, as nested lists."""
    decoded = decode_image(data, ImageSettings(**settings))
    assert decoded.dtype == np.uint8 and decoded.flags.writeable
    return decoded.tolist()


def reason(data: bytes | str | None, **settings: Any) -> str:
    """Return why this is a bad image."""
    with pytest.raises(BadImage) as caught:
        decode_image(data, ImageSettings(**settings))
    text = str(caught.value)
    assert "\n" not in text and len(text) < 300
    return text


def noise(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    """Return a random picture."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# --- one image: the pixels by hand


def test_grey_and_rgb_come_back_as_they_are() -> None:
    """8 bit grey is (H, W, 1), RGB is (H, W, 3), whatever wrote the file."""
    grey = np.array([[0, 128, 255]], dtype=np.uint8)
    colour = np.array([[[255, 0, 0], [1, 2, 3]]], dtype=np.uint8)
    for kind in ("PNG", "BMP", "TIFF", "GIF"):
        assert pixels(encode(grey, kind)) == [[[0], [128], [255]]]
    for kind, options in (
        ("PNG", {}),
        ("BMP", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
    ):
        assert pixels(encode(colour, kind, **options)) == [[[255, 0, 0], [1, 2, 3]]]


def test_one_two_and_four_bit_grey_spread_over_the_range() -> None:
    """The largest value of every depth is 255: 1 of 1, 3 of 3, 15 of 15."""
    assert pixels(png(4, 1, 1, 0, b"\0\x50")) == [[[0], [255], [0], [255]]]
    assert pixels(png(4, 1, 2, 0, b"\0\x1b")) == [[[0], [85], [170], [255]]]
    assert pixels(png(4, 1, 4, 0, b"\0\x01\x8f")) == [[[0], [17], [136], [255]]]
    assert pixels(encode(Image.fromarray(np.array([[True, False]])), "TIFF")) == [[[255], [0]]]


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_sixteen_bit_grey_is_scaled_not_clipped(order: str) -> None:
    """Value // 256: 255 is nearly black, 256 is 1, and 65535 is white."""
    values = np.array([[0, 255, 256, 32767, 32768, 65535]])
    wanted = [[[0], [0], [1], [127], [128], [255]]]
    assert pixels(png(6, 1, 16, 0, b"\0" + values.astype(">u2").tobytes())) == wanted
    picture = Image.frombytes("I;16" if order == "<u2" else "I;16B", (6, 1), values.astype(order).tobytes())
    assert pixels(encode(picture, "TIFF")) == wanted


def test_sixteen_bit_colour_and_alpha_take_the_high_byte_too() -> None:
    """RGB of 16 bit is cut as grey is; grey with alpha stays grey."""
    rgb = np.array([255, 256, 65535], dtype=">u2").tobytes()
    assert pixels(png(1, 1, 16, 2, b"\0" + rgb)) == [[[0, 1, 255]]]
    grey_alpha = np.array([0x1234, 0xFFFF, 0x1234, 0x0000], dtype=">u2").tobytes()
    assert pixels(png(2, 1, 16, 4, b"\0" + grey_alpha)) == [[[0x12], [255]]]


def test_transparency_is_laid_over_white() -> None:
    """Opaque stays, transparent is white, in between c * a + 255 * (1 - a)."""
    grey = np.array([[[0, 255], [0, 0], [0, 128], [200, 51]]], dtype=np.uint8)
    assert pixels(encode(Image.fromarray(grey, "LA"))) == [[[0], [255], [127], [244]]]
    colour = np.array([[[255, 0, 0, 255], [9, 9, 9, 0], [200, 100, 0, 51]]], dtype=np.uint8)
    for kind, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})):
        assert pixels(encode(colour, kind, **options)) == [[[255, 0, 0], WHITE, [244, 224, 204]]]


def test_colour_key_transparency() -> None:
    """The one grey or colour that tRNS names is transparent."""
    assert pixels(png(2, 1, 8, 0, b"\0\x07\x09", chunk(b"tRNS", b"\0\x07"))) == [[[255], [9]]]
    key = chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))
    assert pixels(png(2, 1, 8, 2, b"\0\x01\x02\x03\x01\x02\x04", key)) == [[WHITE, [1, 2, 4]]]


def test_palettes() -> None:
    """A palette is RGB, or grey where it holds greys alone; its transparent entries are white."""
    palette = chunk(b"PLTE", bytes([255, 0, 0, 0, 0, 255, 0, 0, 0]))
    assert pixels(png(3, 1, 8, 3, b"\0\0\1\2", palette)) == [[[255, 0, 0], [0, 0, 255], [0, 0, 0]]]
    alpha = chunk(b"tRNS", bytes([255, 0, 128]))
    assert pixels(png(3, 1, 8, 3, b"\0\0\1\2", palette, alpha)) == [[[255, 0, 0], WHITE, [127, 127, 127]]]
    greys = chunk(b"PLTE", bytes([7, 7, 7, 250, 250, 250]))
    assert pixels(png(2, 1, 8, 3, b"\0\0\1", greys)) == [[[7], [250]]]
    assert pixels(png(2, 1, 8, 3, b"\0\0\1", greys, chunk(b"tRNS", b"\0"))) == [[[255], [250]]]
    one_transparent = chunk(b"tRNS", bytes([255, 0]))
    assert pixels(png(3, 1, 8, 3, b"\0\0\1\2", palette, one_transparent)) == [[[255, 0, 0], WHITE, [0, 0, 0]]]


def test_jpeg_of_every_colour_space() -> None:
    """Grey, YCbCr and CMYK (as Adobe writes it) of one colour each, to within what the quality loses."""
    assert np.abs(decode_image(encode(np.full((8, 8), 77, np.uint8), "JPEG")).astype(int) - 77).max() <= 2
    teal = np.full((8, 8, 3), (20, 150, 140), np.uint8)
    decoded = decode_image(encode(teal, "JPEG", quality=95)).astype(int)
    assert decoded.shape == (8, 8, 3) and np.abs(decoded - (20, 150, 140)).max() <= 3
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    decoded = decode_image(encode(red, "JPEG", quality=95)).astype(int)
    assert decoded.shape == (8, 8, 3) and np.abs(decoded - (255, 0, 0)).max() <= 3


def test_cmyk_tiff() -> None:
    """It is not shown as if it were RGB."""
    assert pixels(encode(Image.new("CMYK", (1, 1), (0, 255, 255, 0)), "TIFF")) == [[[255, 0, 0]]]


def test_first_frame() -> None:
    """An animation is its first frame."""
    frames = [Image.new("RGB", (2, 1), colour) for colour in ("red", "lime", "blue")]
    for kind, options in (("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert pixels(data) == [[[255, 0, 0], [255, 0, 0]]], kind


def test_gif_transparency() -> None:
    """A transparent entry of a GIF is white."""
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putpixel((1, 0), 1)
    assert pixels(encode(picture, "GIF", transparency=1)) == [[[255, 0, 0], WHITE]]


def test_exif_orientation_is_applied() -> None:
    """Orientation 6, as a phone held upright writes it: the left of the file is the top of the picture."""
    exif = Image.Exif()
    exif[0x0112] = 6
    flat = Image.fromarray(np.array([[[10] * 3, [200] * 3]], dtype=np.uint8))
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        assert pixels(encode(flat, kind, exif=exif, **options)) == [[[10] * 3], [[200] * 3]], kind
    long = np.zeros((8, 16, 3), np.uint8)
    long[:, 8:] = 200
    decoded = decode_image(encode(long, "JPEG", exif=exif))
    assert decoded.shape == (16, 8, 3) and decoded[:8].mean() < 10 and decoded[8:].mean() > 190


def test_channels_on_demand() -> None:
    """Grey repeated; red as its luma 0.299 x 255 = 76."""
    assert pixels(encode(np.array([[7]], np.uint8)), channels=3) == [[[7, 7, 7]]]
    assert pixels(encode(np.array([[[255, 0, 0]]], np.uint8)), channels=1) == [[[76]]]
    assert decode_image(encode(np.array([[7]], np.uint8)), ImageSettings(channels=1), 3).tolist() == [[[7, 7, 7]]]


def test_pixels_without_an_agreed_range_are_refused() -> None:
    """Float and 32 bit integers could mean anything."""
    for picture in (Image.new("F", (2, 2), 0.5), Image.new("I", (2, 2), 70000)):
        assert "no agreed range" in reason(encode(picture, "TIFF"))


# --- one image: the quick way is the slow way


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_quick_way_agrees_with_pillow(kind: str, channels: int) -> None:
    """Header to decoder gives what ``Image.open`` gives, for all sizes, filters and kinds of JPEG."""
    for seed in range(20):
        height, width = np.random.default_rng(seed).integers(1, 40, 2)
        options: dict[str, Any] = {"optimize": bool(seed % 2)}
        if kind == "JPEG":
            options = {"quality": 30 + 3 * seed, "progressive": bool(seed % 2), "subsampling": seed % 3}
        smooth = np.cumsum(noise(height, width, channels, seed) // 100, axis=0).astype(np.uint8)
        data = encode(smooth, kind, **options)
        quick = read_picture(data, LIMIT)
        with Image.open(io.BytesIO(data)) as opened:
            assert quick.mode == opened.mode and quick.tobytes() == opened.tobytes()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_quick_way_agrees_with_the_reader_on_damaged_files(kind: str) -> None:
    """Where a damaged file decodes quickly, Pillow's reader of the format gives the same; else there is a reason."""
    data = encode(np.cumsum(noise(24, 24, 3) // 100, axis=0).astype(np.uint8), kind)
    draw = np.random.default_rng(1)
    good = 0
    for _ in range(400):
        damaged = bytearray(data)
        for place in draw.integers(0, len(data), draw.integers(1, 4)):
            damaged[place] = draw.integers(0, 256)
        damaged = damaged[: draw.integers(1, 2 * len(data))]
        try:
            quick = read_picture(bytes(damaged), LIMIT)
        except BadImage:
            continue
        good += 1
        slow = decoding._read_slowly(kind, bytes(damaged), LIMIT)
        assert (quick.mode, quick.size, quick.tobytes()) == (slow.mode, slow.size, slow.tobytes())
    assert kind == "PNG" or good > 20


@pytest.mark.parametrize("channels", [1, 3])
def test_png_taken_together_are_those_taken_singly(channels: int) -> None:
    """Every row filter at the edge to the next picture; what is damaged or of another kind is not taken in."""
    draw = np.random.default_rng(channels)
    files = []
    for _ in range(200):
        rows = draw.integers(0, 256, (6, 1 + 5 * channels), dtype=np.uint8)
        rows[:, 0] = draw.integers(0, 5, 6)
        files.append(png(5, 6, 8, 0 if channels == 1 else 2, rows.tobytes()))
    for place in range(100, 200):
        damaged = bytearray(files[place])
        damaged[draw.integers(0, len(damaged))] = draw.integers(0, 256)
        files[place] = bytes(damaged)
    kind = 0 if channels == 1 else 2
    whole = rows.tobytes()
    row = whole[: len(whole) // 6]
    no_end = chunk(b"IDAT", zlib.compress(whole)[:-2])
    files += [png(5, 6, 8, kind, whole, chunk(name, bytes(6))) for name in (b"tRNS", b"eXIf")]
    files += [png(5, 6, 8, kind, part) for part in (whole + row, whole[: -len(row)], b"\5" + whole[1:])]
    files += [png(6, 5, 8, kind, whole), b"", files[0][:-1], files[0][:33] + no_end + chunk(b"IEND", b"")]
    batch = png_batch.PngBatch(6, 5, channels)
    taken = [place for place, data in enumerate(files) if batch.add(place, data)]
    assert taken[:100] == list(range(100)) and len(taken) < 110 and taken[-1] < 200
    together = dict(batch.take())
    assert list(together) == taken and not list(batch.take())
    for place in taken:
        assert together[place] == read_picture(files[place], LIMIT).tobytes()


# --- one image: why it is bad


def test_reasons() -> None:
    """Every kind of bad file is told from the others."""
    whole = encode(noise(16, 16, 1))
    assert reason(None) == "no image"
    assert reason(b"") == "empty: 0 bytes"
    assert reason(b"hello, world") == "not a PNG, JPEG, WebP, BMP, TIFF or GIF file: it begins with b'hello, w'"
    assert "not a PNG" in reason(encode(noise(4, 4, 3), "PPM"))
    assert reason(whole[:-1]) == "PNG, cut short: it ends before its IEND chunk"
    assert reason(whole[:-12]) == "PNG, cut short: it ends before its IEND chunk"
    assert reason(whole[:100]) == "PNG, cut short: it ends inside its IDAT chunk"
    assert reason(whole[:8]) == "PNG, cut short: it ends before its IEND chunk"
    flipped = bytearray(whole)
    flipped[60] ^= 1
    assert reason(bytes(flipped)) == "PNG, damaged: the checksum of its IDAT chunk is wrong"
    assert reason(whole[:8] + chunk(b"IEND", b"")) == "PNG, damaged: it begins with IEND instead of a header"
    assert "no IDAT" in reason(whole[:33] + chunk(b"IEND", b""))
    assert "0 x 5" in reason(png(0, 5, 8, 0, b""))
    assert "PNG, damaged or cut short" in reason(png(4, 1, 8, 0, b"\x09\1\2\3\4"))  # no such filter
    assert "PNG, damaged or cut short" in reason(png(4, 1, 3, 0, b"\0\1\2"))  # no such depth


def test_png_rows_that_end_early() -> None:
    """Whole chunks and a whole stream with too few rows in it: Pillow alone makes them black and says nothing."""
    cut = "PNG, cut short: its rows end before the picture does"
    row = b"\0\1\2\3\4"
    palette, key = chunk(b"PLTE", bytes(range(15))), chunk(b"tRNS", b"\0\1")
    for rows, bad in ((4, False), (3, True), (1, True)):
        for data in (
            png(4, 4, 8, 0, rows * row),
            png(4, 4, 8, 3, rows * row, palette),
            png(4, 4, 8, 0, rows * row, key),
        ):
            assert not bad or reason(data) == cut
            assert bad or decode_image(data).shape[:2] == (4, 4)
    assert decode_image(png(4, 4, 8, 0, row + bytes(15))).sum() == 10  # black rows that are there
    passes = b"\0\1" + b"\0\2" + b"\0\3\4" + 2 * b"\0\5\6" + 2 * b"\0\7\7\7\7"  # of 4 x 4: passes 1, 4, 5, 6 and 7
    whole = decode_image(png(4, 4, 8, 0, passes, interlace=1))
    assert whole[:, :, 0].tolist() == [[1, 5, 2, 6], [7, 7, 7, 7], [3, 5, 4, 6], [7, 7, 7, 7]]
    assert reason(png(4, 4, 8, 0, passes[:-5], interlace=1)) == cut
    narrow = 8 * b"\0\1" + 4 * b"\0\1\1"  # of 2 x 8, four bytes more than without passes
    assert decode_image(png(2, 8, 8, 0, narrow, interlace=1)).sum() == 16
    assert reason(png(2, 8, 8, 0, narrow[:-3], interlace=1)) == cut


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "BMP", "TIFF", "GIF"])
def test_cut_short(kind: str) -> None:
    """A file without its second half is bad and says which format it is of; so is a bare signature."""
    data = encode(noise(32, 32, 3), kind)
    name = "WebP" if kind == "WEBP" else kind
    for end in (len(data) // 2, 40, 12):
        assert reason(data[:end]).startswith(name)


def test_jpeg_without_its_end_is_bad() -> None:
    """A download that stopped a few bytes early is not filled up with grey."""
    for channels in (1, 3):
        data = encode(noise(32, 32, channels), "JPEG")
        assert "truncated" in reason(data[:-2]) and "truncated" in reason(data[:-30])


def huge(kind: str) -> bytes:
    """Return a small file whose header says 20000 x 15000, 300 million pixels."""
    width, height = 20_000, 15_000
    small = encode(noise(2, 2, 3), "JPEG")
    frame = small.index(b"\xff\xc0")
    tags = ((256, 3, width), (257, 3, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 0), (279, 4, 0))
    return {
        "PNG": png(width, height, 8, 0, b"\0" * 100),
        "PNG interlaced": png(width, height, 8, 2, b"\0" * 100, interlace=1),
        "JPEG": small[: frame + 5] + struct.pack(">HH", height, width) + small[frame + 9 :],
        "GIF": b"GIF89a" + struct.pack("<HH", width, height) + b"\0" * 20,
        "WebP": b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0" + b"\0" * 4 + (width - 1).to_bytes(3, "little")
        + (height - 1).to_bytes(3, "little") + b"\0" * 8,
        "BMP": b"BM" + struct.pack("<IIIIiiHHIIiiII", 99, 0, 54, 40, width, height, 1, 24, *[0] * 6) + b"\0" * 99,
        "TIFF": b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags))
        + b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags) + b"\0" * 8,
    }[kind]  # fmt: skip


BOMBS = ["PNG", "PNG interlaced", "JPEG", "GIF", "WebP", "BMP", "TIFF"]


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_by_its_header(kind: str) -> None:
    """300 million pixels, in a file of some hundred bytes."""
    assert reason(huge(kind)) == "20000 x 15000 is 300000000 pixels, more than the limit of 100000000"


def test_a_bomb_takes_no_memory() -> None:
    """Refused in a process that may take 64 MB more, which has no memory for one where the limit is raised."""
    code = """
import resource, sys
sys.path[:0] = sys.argv[1:3]
from test_images import BOMBS, huge
from prune_cli.io.images.decoding import BadImage, ImageSettings, decode_image, read_picture
from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin
files = [huge(kind) for kind in BOMBS]
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 64_000_000,) * 2)
for limit in (10**8, 10**9):
    for data in files:
        try:
            decode_image(data, ImageSettings(max_pixels=limit))
        except BadImage as reason:
            print(reason)
"""
    folder = str(Path(__file__).parent)
    run = subprocess.run([sys.executable, "-c", code, folder, str(ROOT)], capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    assert lines[: len(BOMBS)] == ["20000 x 15000 is 300000000 pixels, more than the limit of 100000000"] * len(BOMBS)
    assert "PNG: not enough memory to decode it" in lines[len(BOMBS) :]


def test_a_compressed_text_does_not_unpack() -> None:
    """Texts and profiles of a PNG are not read: they cannot fail a good picture, or fill the memory."""
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 5_000_000))
    assert pixels(png(1, 1, 8, 0, b"\0\x05", text)) == [[[5]]]
    assert pixels(png(1, 1, 8, 0, b"\0\x05", text, chunk(b"tRNS", b"\0\x09"))) == [[[5]]]


def test_warnings_and_globals_of_pillow_stay() -> None:
    """Nothing is warned of, no filter is left behind, Pillow's own limit is not set."""
    before = Image.MAX_IMAGE_PIXELS
    filters = list(warnings.filters)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        Image.MAX_IMAGE_PIXELS = 40  # 64 pixels are worth a warning to Pillow
        try:
            for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
                assert decode_image(encode(noise(8, 8, 3), kind)).shape == (8, 8, 3)
            reason(encode(noise(8, 8, 3), "TIFF")[:60])
            assert Image.MAX_IMAGE_PIXELS == 40
        finally:
            Image.MAX_IMAGE_PIXELS = before
    assert not seen and warnings.filters == filters


# --- one image: its size


def twin(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the picture resampled by the definition: a triangle as wide as the scale, over the box that is kept."""
    scale = max(size[0] / picture.shape[0], size[1] / picture.shape[1])
    result = picture.astype(np.float64)
    for axis in (0, 1):
        length, target = picture.shape[axis], size[axis]
        box = min(target / scale, length)
        start, step = (length - box) / 2, box / target
        reach = max(step, 1.0)
        centres = start + (np.arange(target) + 0.5) * step
        weights = np.maximum(0.0, 1.0 - np.abs((np.arange(length) + 0.5 - centres[:, None]) / reach))
        weights /= weights.sum(axis=1, keepdims=True)
        result = np.moveaxis(np.tensordot(weights, result, axes=(1, axis)), 0, axis)
    return result


@pytest.mark.parametrize("shape", [(28, 28), (40, 60), (61, 33), (7, 9), (5, 64)])
@pytest.mark.parametrize("size", [(16, 16), (20, 12), (33, 64)])
def test_resize_is_the_twin(shape: tuple[int, int], size: tuple[int, int]) -> None:
    """Antialiased bilinear over the central box, smaller and larger, to within rounding."""
    picture = noise(*shape, 3)
    fitted = np.asarray(fit_picture(Image.fromarray(picture), size, "auto"))
    assert fitted.shape == (*size, 3)
    assert np.abs(fitted - twin(picture, size)).max() <= 1.5


def test_resize_by_hand() -> None:
    """4 x 2 to 1 x 1: a triangle of width 4, (0 + 3 * 10 + 3 * 30 + 255) / 8 = 46.9; the same size stays as it is."""
    picture = np.array([[0], [10], [30], [255]], np.uint8) + np.array([[0, 0]], np.uint8)
    assert pixels(encode(picture), size=(1, 1)) == [[[47]]]
    assert pixels(encode(picture), size=(4, 2)) == picture[:, :, None].tolist()


# --- paths


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A root with a picture, and beside it what must not be opened."""
    root = tmp_path / "root"
    (root / "deep").mkdir(parents=True)
    (root / "deep" / "a.png").write_bytes(encode(np.array([[7]], np.uint8)))
    (tmp_path / "secret.png").write_bytes(encode(np.array([[9]], np.uint8)))
    (tmp_path / "root2").mkdir()
    (tmp_path / "root2" / "b.png").write_bytes(encode(np.array([[9]], np.uint8)))
    return root


def test_paths_inside(folder: Path) -> None:
    """Relative, absolute, by way of a link or of ``..``: what ends inside is read."""
    (folder / "link.png").symlink_to("deep/a.png")
    (folder.parent / "alias").symlink_to(folder)
    for path in ("deep/a.png", str(folder / "deep" / "a.png"), "link.png", "deep/../deep/a.png"):
        assert decode_image(path, ImageSettings(root=folder)).tolist() == [[[7]]]
    assert decode_image("deep/a.png", ImageSettings(root=folder.parent / "alias")).tolist() == [[[7]]]


def test_paths_outside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends outside is never opened, and the reason names the path."""
    (folder / "link.png").symlink_to(folder.parent / "secret.png")
    (folder / "linked").symlink_to(folder.parent)
    opened: list[Any] = []
    monkeypatch.setattr(os, "open", lambda *a, **k: opened.append(a))
    outside = (
        "../secret.png",
        str(folder.parent / "secret.png"),
        "link.png",
        "linked/secret.png",
        "../root2/b.png",
        "..",
    )
    for path in outside:
        assert reason(path, root=folder) == f"{path!r} leads outside the root folder {folder}"
    assert not opened


def test_what_is_not_a_file(folder: Path) -> None:
    """Folders, pipes, devices, nothing at all: none is waited for."""
    os.mkfifo(folder / "pipe.png")
    (folder / "dangling.png").symlink_to("nowhere.png")
    (folder / "loop.png").symlink_to("loop.png")
    assert reason("pipe.png", root=folder) == "'pipe.png' is a pipe, not a file"
    assert reason("deep", root=folder) == "'deep' is a folder, not a file"
    assert reason("/dev/zero", root=Path("/dev")) == "'/dev/zero' is a device, not a file"
    assert reason("gone.png", root=folder) == "'gone.png': no such file or directory"
    assert reason("dangling.png", root=folder) == "'dangling.png': no such file or directory"
    assert reason("loop.png", root=folder).startswith("'loop.png'")
    assert reason("deep/a.png/b", root=folder).startswith("'deep/a.png/b'")
    assert reason("a\0b", root=folder) == "'a\\x00b' is not a path"
    assert reason("x" * 5000, root=folder).endswith("file name too long")
    assert reason("deep/a.png") == "a path, and no root folder is set"
    (folder / "large.png").write_bytes(b"")
    os.truncate(folder / "large.png", 1 << 40)
    assert "more than the" in reason("large.png", root=folder)


# --- a column of images


def source(*batches: Any, kind: pa.DataType | None = None) -> Callable[[], Iterator[pa.Array]]:
    """Return what iterates over these batches as a Parquet column would."""
    arrays = [batch if isinstance(batch, pa.Array) else pa.array(batch, kind or pa.binary()) for batch in batches]
    return lambda: iter(arrays)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The workers that were started, however little there is to do."""
    processes: list[subprocess.Popen[bytes]] = []
    enter = decode_workers.DecodeWorkers.__enter__

    def spy(pool: decode_workers.DecodeWorkers) -> decode_workers.DecodeWorkers:
        processes.extend(pool.processes)
        return enter(pool)

    monkeypatch.setattr(decode_workers.DecodeWorkers, "__enter__", spy)
    monkeypatch.setattr(images, "_WORKERS_PAY", 1e-9)
    monkeypatch.setattr(images, "_CHUNK_ROWS", 5)
    monkeypatch.setattr(images, "_FIRST_ROWS", 2)
    return processes


def some_images(n: int, channels: int = 1) -> list[np.ndarray]:
    """Return n different pictures."""
    return [noise(6, 5, channels, seed) for seed in range(n)]


HF = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


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
    assert [(row.position, row.path) for row in decoded.bad] == [
        (2, "broken.png"),
        (3, None),
        (4, None),
        (6, "../secret.png"),
    ]
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
    data: list[Any] = [
        {"bytes": encode(p, "JPEG" if i % 3 else "PNG"), "path": str(i)}
        for i, p in enumerate(some_images(60, channels))
    ]
    for place in (0, 11, 37, 59):
        data[place] = {"bytes": b"\x89PNG\r\n\x1a\nno", "path": f"bad-{place}"}
    data[20] = None
    results = [
        decode_images(source(data[:33], data[33:], kind=HF), 60, ImageSettings(root=folder), workers=w)
        for w in (1, 2, 3)
    ]
    assert len(started) == 5
    assert [row.position for row in results[0].bad] == [0, 11, 20, 37, 59]
    for result in results[1:]:
        assert result.images_nhwc.tobytes() == results[0].images_nhwc.tobytes()
        assert result.bad == results[0].bad
    for position in (1, 36, 58):
        assert np.array_equal(results[0].images_nhwc[position], decode_image(data[position]["bytes"]))
    assert all(process.poll() is not None for process in started)


@pytest.mark.parametrize(("microseconds", "processes"), [(50, 0), (500, 4)])
def test_nothing_little_starts_a_process(
    microseconds: int, processes: int, started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """2,000 small images are decoded here, whatever number of workers is allowed; 1 s of work is shared by four."""
    ticks = itertools.count(0.0, 32e-6 * microseconds)  # a chunk of 32 rows takes a tick
    monkeypatch.setattr(images, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    monkeypatch.setattr(images, "_FIRST_ROWS", 32)
    monkeypatch.setattr(images, "_CHUNK_ROWS", 32)
    monkeypatch.setattr(images, "_WORKERS_PAY", 0.3)
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
    assert np.array_equal(
        sized.images_nhwc[17], decode_image(data[17], ImageSettings(size=(4, 8)), 3 if coloured else 1)
    )


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
    decode_images(
        source(data), 30, workers=2, progress=lambda task, done, total, facts=None: told.append((done, total))
    )
    assert told == sorted(told) and told[-1] == (30, 30)


def test_chunks_are_bounded() -> None:
    """8 MiB at most, but for one row that is larger; a column is never copied."""
    sizes = [3 << 20, 3 << 20, 3 << 20, 20 << 20, 1, 1]
    batch = pa.array([bytes(size) for size in sizes], pa.binary())
    chunks = list(image_chunks.image_chunks([batch], lambda: 100))
    assert [len(c) for c in chunks] == [2, 1, 1, 2] and [c.first for c in chunks] == [0, 2, 3, 4]
    assert sum(len(c.data) for c in chunks) == sum(sizes)
    assert [len(c) for c in image_chunks.image_chunks([batch.slice(4)] * 3, lambda: 1)] == [1] * 6


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_killed_worker_is_an_error(number: signal.Signals, started: list[Any]) -> None:
    """Not a hang, and not silence: the message names the rows and the cure, and the others are gone."""
    data = [encode(picture) for picture in some_images(5)] * 100

    def kill(task: str, done: int, total: int, facts: Any = None) -> None:
        if started:
            started[1].send_signal(number)

    with pytest.raises(PruneError, match=rf"{number.name}.*rows \d+ to \d+") as caught:
        decode_images(source(data), 500, workers=2, progress=kill)
    assert caught.value.cure is not None and "--workers 1" in caught.value.cure
    assert len(started) == 2 and all(process.poll() is not None for process in started)


def test_a_worker_that_fails_says_why(started: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line of its traceback is in the message."""
    monkeypatch.setattr(decode_workers, "_START", "raise SystemError('no decoder here')")
    with pytest.raises(PruneError, match=r"code 1 .*SystemError: no decoder here"):
        decode_images(source([encode(picture) for picture in some_images(30)]), 30, workers=2)


def test_workers_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch, started: list[Any]) -> None:
    """An error with a cure, and nothing left open."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(PruneError, match="cannot be started: No such file") as caught:
        decode_images(source([encode(picture) for picture in some_images(30)]), 30, workers=2)
    assert caught.value.cure is not None and "--workers 1" in caught.value.cure


def test_an_interrupt_leaves_nothing_behind(started: list[Any]) -> None:
    """Ctrl-C: the workers are gone, and there is no file that could stay."""
    open_files = Path("/proc/self/fd")  # the pixels lie in a nameless file: what could stay is an open descriptor
    gc.collect()
    before = len(list(open_files.iterdir()))

    def interrupt(task: str, done: int, total: int, facts: Any = None) -> None:
        if started:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode_images(source([encode(picture) for picture in some_images(60)]), 60, workers=2, progress=interrupt)
    assert len(started) == 2 and all(process.poll() is not None for process in started)
    gc.collect()
    assert len(list(open_files.iterdir())) <= before


def test_workers_leave_with_their_parent() -> None:
    """A parent that is killed outright takes them along: the end of their pipe tells them."""
    code = """
import sys, time
sys.path[:0] = sys.argv[1:2]
from prune_cli.io.images.workers import DecodeWorkers, Job
pool = DecodeWorkers(2, Job(100), None)
print(*[process.pid for process in pool.processes], flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code, str(ROOT)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(pids) == 2
    deadline = 200
    while any(_runs(pid) for pid in pids) and deadline:
        deadline -= 1
        signal.sigtimedwait([], 0.05)
    assert not any(_runs(pid) for pid in pids)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_memory_without_memfd(monkeypatch: pytest.MonkeyPatch, started: list[Any]) -> None:
    """Where the system has none, a file without a name does it."""
    monkeypatch.delattr(os, "memfd_create")
    pictures = some_images(30)
    decoded = decode_images(source([encode(picture) for picture in pictures]), 30, workers=2)
    assert len(started) == 2 and np.array_equal(decoded.images_nhwc[:, :, :, 0], pictures)


def test_threads_of_the_caller_are_no_danger(started: list[Any]) -> None:
    """Workers are started and used while other threads decode; nobody waits for a lock for ever."""
    import threading

    data = encode(noise(8, 8, 3), "GIF")
    stop = threading.Event()
    failures: list[BaseException] = []

    def decode() -> None:
        try:
            while not stop.is_set():
                decode_image(data)
        except BaseException as error:
            failures.append(error)

    filters = list(warnings.filters)
    threads = [threading.Thread(target=decode) for _ in range(3)]
    for thread in threads:
        thread.start()
    decoded = decode_images(source([data] * 40), 40, workers=2)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures and not decoded.bad and warnings.filters == filters


# --- images that stay encoded


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
