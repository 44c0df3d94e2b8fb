"""One image: pixels by hand for every kind, and a reason for every bad one."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import encode, noise
from PIL import Image

from prune_cli.io.images import decoding
from prune_cli.io.images.decoding import BadImage, ImageSettings, decode_image, fit_picture, read_picture
from prune_cli.io.images.png import PngBatch

ROOT = Path(__file__).resolve().parents[3]
LIMIT = 100_000_000
WHITE = [255, 255, 255]


def chunk(name: bytes, body: bytes) -> bytes:
    """Return one PNG chunk."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes, interlace: int = 0) -> bytes:
    """Return a PNG made by hand; every row begins with its filter byte."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


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


# --- one image: the pixels by hand


def test_grey_and_rgb_come_back_as_they_are() -> None:
    """8 bit grey is (H, W, 1), RGB is (H, W, 3), whatever wrote the file."""
    grey = np.array([[0, 128, 255]], dtype=np.uint8)
    colour = np.array([[[255, 0, 0], [1, 2, 3]]], dtype=np.uint8)
    for kind in ("PNG", "BMP", "TIFF", "GIF"):
        assert pixels(encode(grey, kind)) == [[[0], [128], [255]]]
    for kind, options in (("PNG", {}), ("BMP", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {"lossless": True})):
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
    batch = PngBatch(6, 5, channels)
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
        for data in (png(4, 4, 8, 0, rows * row), png(4, 4, 8, 3, rows * row, palette), png(4, 4, 8, 0, rows * row, key)):
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
sys.path[:0] = sys.argv[1:]
from test_decoding import BOMBS, huge
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
    folders = [str(folder) for folder in (Path(__file__).parent, ROOT / "tests", ROOT)]
    run = subprocess.run([sys.executable, "-c", code, *folders], capture_output=True, text=True, check=True)
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
    outside = ("../secret.png", str(folder.parent / "secret.png"), "link.png", "linked/secret.png", "../root2/b.png", "..")
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
