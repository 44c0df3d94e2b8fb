"""One image: encoded bytes or a path under a root folder in, grey or RGB pixels out, or the reason why not.

Only Pillow and the standard library are imported here, so that a decoding process starts in some 60 ms.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import struct
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from PIL import Image

from prune_cli.io.images.png import GREY, GREY_ALPHA, BadPng, is_png, lacks_rows, walk_png, without_extras
from prune_cli.io.stores.inside import BadFile, read_inside

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Encoded = bytes | str
Channels = Literal["auto", 1, 3]

_PLUGINS = {"PNG": "Png", "JPEG": "Jpeg", "WebP": "WebP", "BMP": "Bmp", "TIFF": "Tiff", "GIF": "Gif"}
"""Format -> what Pillow's names of its reader begin with."""

FORMATS = tuple(_PLUGINS)

_STARTS = {**dict.fromkeys((b"GIF87a", b"GIF89a"), "GIF"), **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TIFF"), b"BM": "BMP"}
_JPEG_FRAMES = (0xC0, 0xC1, 0xC2)
# Tables, restarts, APP0, APP2 to APP15, comment. Not APP1: EXIF and XMP may turn the picture.
_JPEG_SKIPPED = frozenset((0xC4, 0xDB, 0xDD, 0xE0, *range(0xE2, 0xF0), 0xFE))
_TURNS = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
_UPRIGHT = {orientation: Image.Transpose[turn] for orientation, turn in enumerate(_TURNS, start=2)}
_GREY_MODES = ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N")
_BILINEAR = Image.Resampling.BILINEAR

# `warnings.catch_warnings` swaps state that all threads share, so one thread at a time may hold it; a forked child
# starts with a free lock.
_quiet = threading.Lock()


def _renew_lock() -> None:
    global _quiet
    _quiet = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


class BadImage(Exception):
    """The reason why one image cannot be used: one line, fit for the ledger of bad rows."""


@dataclass(frozen=True)
class ImageSettings:
    """How images become pixels.

    Args:
        max_pixels: largest width x height; a larger picture is refused by its header, before anything is allocated for it.
        root: folder that paths are relative to, or None where no row may be a path; nothing outside it is opened.
        size: (H, W) to bring every picture to, or None where all have one size already: see `fit_picture`.
        channels: 1 (grey), 3 (RGB), or ``auto``: grey where every good picture is grey, else RGB.
    """

    max_pixels: int = 100_000_000
    root: Path | None = None
    size: tuple[int, int] | None = None
    channels: Channels = "auto"


def decode_image(encoded: Encoded | None, settings: ImageSettings | None = None, channels: Channels | None = None) -> npt.NDArray[np.uint8]:
    """Return the pixels of one image.

    What comes back for which kind of picture: `read_picture`; how it is brought to a size: `fit_picture`.

    Args:
        encoded: the bytes of a file, or a path under ``settings.root``.
        settings: limits, root folder and size; None for the defaults.
        channels: 1, 3 or ``auto`` (1 for a grey picture, else 3); None for what ``settings`` says.
    Returns:
        (H, W, C) uint8, writable.
    Raises:
        BadImage: the reason why there are no pixels: row by row, collect these instead of stopping.
    """
    import numpy as np

    settings = settings or ImageSettings()
    data = encoded_bytes(encoded, settings.root, settings.max_pixels)
    picture = fit_picture(read_picture(data, settings.max_pixels), settings.size, channels or settings.channels)
    return np.array(picture, dtype=np.uint8).reshape(picture.height, picture.width, -1)


def encoded_bytes(encoded: Encoded | None, root: Path | None, max_pixels: int) -> bytes:
    """Return the bytes of an image's file, read from under the root folder if it is a path.

    Raises:
        BadImage: there is neither, or the path does not lead to a readable file inside the root folder that has no more
            bytes than a picture of ``max_pixels`` can need.
    """
    if encoded is None:
        raise BadImage("no image")
    if isinstance(encoded, bytes):
        return encoded
    if root is None:
        raise BadImage("a path, and no root folder is set")
    try:
        return read_inside(root, encoded, limit=16 * max_pixels + (1 << 20))
    except BadFile as reason:
        raise BadImage(str(reason)) from None


def read_picture(data: bytes, max_pixels: int) -> Image.Image:
    """Return the picture in these bytes as Pillow's mode ``L`` or ``RGB``, upright and without transparency.

    =========================================  ====================================================================
    in the file                                comes back as
    =========================================  ====================================================================
    1, 2, 4 and 8 bit grey                     ``L``, spread over 0 to 255
    16 bit grey                                ``L``, the high byte: value // 256, as Pillow does for 16 bit colour
    palette                                    ``RGB``; ``L`` where the palette holds greys alone
    CMYK, YCbCr                                ``RGB``, with Pillow's formulas and no colour profile
    transparency (alpha, colour key, palette)  laid over white: ink drawn in black on nothing stays visible
    EXIF orientation                           applied, as Hugging Face ``datasets`` does
    several frames (GIF, APNG, TIFF, WebP)     the first
    32 bit integer, float, LAB                 refused: no agreed range
    =========================================  ====================================================================

    Grey and RGB PNG and JPEG, the common case, go from their header straight to Pillow's decoder; all else, and
    whatever that decoder refuses, goes through Pillow's reader of the format. Both give the same pixels.

    Args:
        max_pixels: largest width x height, compared before anything is allocated for the pixels. Beyond 178,956,970
            Pillow still refuses TIFF, GIF and WebP by a limit of its own.
    Raises:
        BadImage: not one of the six formats, too large, damaged, cut short, or of a kind without an agreed range. A
            JPEG holds no checksum, so damage inside its scan that still decodes cannot be seen; every checksum of a PNG
            is verified.
    """
    kind = _format_of(data)
    if kind == "PNG":
        return _read_png(data, max_pixels)
    if kind == "JPEG":
        frame = _jpeg_frame(data)
        if frame is not None:
            mode, size = frame
            _check_size(size, max_pixels)
            try:
                return Image.frombytes(mode, size, data, "jpeg", mode, "")
            except Exception:
                return _read_slowly(kind, data, max_pixels)
    elif kind == "GIF" and len(data) >= 10:
        _check_size(struct.unpack_from("<HH", data, 6), max_pixels)
    elif kind == "WebP":
        _check_size(_webp_size(data), max_pixels)
    return _read_slowly(kind, data, max_pixels)


def fit_picture(picture: Image.Image, size: tuple[int, int] | None, channels: Channels) -> Image.Image:
    """Return the picture with these channels and, where a size is given, filling it: scaled by its shorter side, cut at
    the centre.

    The scale is the larger of ``H / height`` and ``W / width``, so the target is covered and nothing is padded; what
    overhangs is cut off evenly on both sides. Cut and scaling are one step (the box to be kept, in fractions of a
    pixel, is resampled), with Pillow's antialiased bilinear filter.

    Args:
        picture: mode ``L`` or ``RGB``.
        size: (H, W), or None to leave it.
        channels: 1 (RGB becomes grey by ITU-R 601 luma), 3 (grey is repeated), ``auto`` to leave it.
    """
    wanted = picture.mode if channels == "auto" else ("L" if channels == 1 else "RGB")
    if picture.mode != wanted:
        picture = picture.convert(wanted)
    if size is None or (picture.height, picture.width) == size:
        return picture
    height, width = size
    scale = max(height / picture.height, width / picture.width)
    box_height, box_width = min(height / scale, picture.height), min(width / scale, picture.width)
    top, left = (picture.height - box_height) / 2, (picture.width - box_width) / 2
    return picture.resize((width, height), _BILINEAR, box=(left, top, left + box_width, top + box_height))


def _format_of(data: bytes) -> str:
    if is_png(data):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    for start, kind in _STARTS.items():
        if data.startswith(start):
            return kind
    if not data:
        raise BadImage("empty: 0 bytes")
    raise BadImage(f"not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file: it begins with {data[:8]!r}")


def _check_size(size: tuple[int, ...], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise BadImage(f"{width} x {height} is {width * height} pixels, more than the limit of {max_pixels}")
    if width < 1 or height < 1:
        raise BadImage(f"{width} x {height} pixels: there is no picture")


def _read_png(data: bytes, max_pixels: int) -> Image.Image:
    try:
        png = walk_png(data)
    except BadPng as error:
        raise BadImage(f"PNG, {error}") from None
    _check_size(png.size, max_pixels)
    picture = None
    if png.plain:
        mode = "L" if png.colour == GREY else "RGB"
        with contextlib.suppress(Exception):  # Pillow's reader then says what it was
            picture = Image.frombytes(mode, png.size, png.rows, "zip", mode)
            filled = picture.getbbox()
            if filled is not None and filled[3] == picture.height:  # only rows that are black to the end can be missing
                return picture
    if picture is None:
        picture = _read_slowly("PNG", without_extras(data, png), max_pixels, grey=png.colour in (GREY, GREY_ALPHA))
    if lacks_rows(png):
        raise BadImage("PNG, cut short: its rows end before the picture does")
    return picture


def _jpeg_frame(data: bytes) -> tuple[str, tuple[int, int]] | None:
    """Return mode and size of a plain 8 bit grey or colour JPEG, or None where Pillow's reader had better look."""
    place = 2
    found: tuple[str, tuple[int, int]] | None = None
    end = len(data) - 10
    while place < end and data[place] == 0xFF:
        marker = data[place + 1]
        if marker in _JPEG_FRAMES:
            layers = data[place + 9]
            if found is not None or data[place + 4] != 8 or layers not in (1, 3):
                return None
            height, width = struct.unpack_from(">HH", data, place + 5)
            found = ("L" if layers == 1 else "RGB", (width, height))
        elif marker == 0xDA:
            return found if found is not None and found[1][0] and found[1][1] else None
        elif marker not in _JPEG_SKIPPED:
            return None
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if len(data) >= 30:
        if kind == b"VP8X":
            return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
        if kind == b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        if kind == b"VP8 ":
            width, height = struct.unpack_from("<HH", data, 26)
            return width & 0x3FFF, height & 0x3FFF
    raise BadImage("WebP, damaged: it has no header")


def _read_slowly(kind: str, data: bytes, max_pixels: int, grey: bool = False) -> Image.Image:
    """Return the picture by way of Pillow's reader of this format, its warnings kept in."""
    with _quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            module = importlib.import_module(f"PIL.{_PLUGINS[kind]}ImagePlugin")
            picture: Image.Image = getattr(module, f"{_PLUGINS[kind]}ImageFile")(io.BytesIO(data))
            _check_size(picture.size, max_pixels)
            picture.load()
            picture = _flatten(_upright(picture), kind, grey)
        except BadImage:
            raise
        except MemoryError:
            raise BadImage(f"{kind}: not enough memory to decode it") from None
        except Exception as error:  # a reader of hostile bytes may raise anything
            raise BadImage(f"{kind}, damaged or cut short: {_one_line(error)}") from None
    return picture


def _upright(picture: Image.Image) -> Image.Image:
    if "exif" not in picture.info and "xmp" not in picture.info:  # a TIFF was turned by Pillow's reader already
        return picture
    try:
        method = _UPRIGHT.get(picture.getexif().get(0x0112, 1))
    except Exception:  # unreadable EXIF says nothing about the pixels
        return picture
    return picture if method is None else picture.transpose(method)


def _flatten(picture: Image.Image, kind: str, grey: bool) -> Image.Image:
    mode = picture.mode
    if mode.startswith("I;16") or (mode == "I" and kind == "PNG"):
        import numpy as np

        depth = getattr(picture, "tag_v2", {}).get(258, (16,))[0]  # TIFF BitsPerSample: 12 or 16
        return Image.fromarray((np.asarray(picture) >> (depth - 8)).astype(np.uint8))  # the high byte
    if mode in ("I", "F", "LAB"):
        raise BadImage(f"{kind}: pixels of kind {mode} have no agreed range; save it with 8 or 16 bit a channel")
    if mode in ("P", "PA"):
        palette = picture.getpalette() or []
        grey = palette[0::3] == palette[1::3] == palette[2::3]
    target = "L" if grey or mode in _GREY_MODES else "RGB"
    if mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        canvas = Image.new(target, picture.size, "white")
        canvas.paste(picture.convert(target), mask=picture.getchannel("A"))
        return canvas
    return picture.convert(target)


def _one_line(error: Exception) -> str:
    text = re.sub(r" at 0x[0-9a-f]+", "", " ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
