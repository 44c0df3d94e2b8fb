"""PNG files as far as one can see without decoding: header, checksums, and whether all rows are there.

Pillow verifies no checksum of the compressed rows, and where their stream ends early, after a whole row, it makes the
rest black.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEPT = {b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND"}
_SAMPLES = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_STEP = 1 << 20


class BadPng(Exception):
    """What is wrong with a PNG file, in one line."""


class Png(NamedTuple):
    """A PNG file whose chunks are all there and whole.

    Args:
        size: (width, height).
        depth: bits a sample.
        colour: `GREY`, `RGB`, `PALETTE`, `GREY_ALPHA` or `RGB_ALPHA`; any other number if the file says so.
        interlaced: the rows come in seven passes.
        plain: 8 bit grey or RGB, not interlaced, without transparency or orientation.
        rows: the compressed rows, of all chunks.
        kept: where in the file the chunks lie that a picture needs.
    """

    size: tuple[int, int]
    depth: int
    colour: int
    interlaced: bool
    plain: bool
    rows: bytes
    kept: list[slice]


def is_png(data: bytes) -> bool:
    """Return whether a file begins as PNG files do."""
    return data.startswith(_SIGNATURE)


def walk_png(data: bytes) -> Png:
    """Return what a PNG file holds, every checksum verified.

    Raises:
        BadPng: cut short, a wrong checksum, no header or no rows.
    """
    end = len(data)
    place = 8
    rows: list[bytes] = []
    kept = [slice(0, 8)]
    plain = True
    header: tuple[int, ...] | None = None
    name = b""
    while name != b"IEND":
        if place + 12 > end:
            raise BadPng("cut short: it ends before its IEND chunk")
        body_end = place + 8 + int.from_bytes(data[place : place + 4], "big")
        name = data[place + 4 : place + 8]
        if body_end + 4 > end:
            raise BadPng(f"cut short: it ends inside its {_shown(name)} chunk")
        if zlib.crc32(data[place + 4 : body_end]) != int.from_bytes(data[body_end : body_end + 4], "big"):
            raise BadPng(f"damaged: the checksum of its {_shown(name)} chunk is wrong")
        if header is None:
            if name != b"IHDR" or body_end - place != 21:
                raise BadPng(f"damaged: it begins with {_shown(name)} instead of a header")
            header = struct.unpack_from(">IIBBBBB", data, place + 8)
        if name == b"IDAT":
            rows.append(data[place + 8 : body_end])
        elif name == b"tRNS" or name == b"eXIf":
            plain = False
        if name in _KEPT:
            kept.append(slice(place, body_end + 4))
        place = body_end + 4
    if header is None or not rows:
        raise BadPng("damaged: it has no IDAT chunk")
    width, height, depth, colour, compression, filters, interlace = header
    plain = plain and depth == 8 and colour in (GREY, RGB) and compression == filters == interlace == 0
    return Png((width, height), depth, colour, interlace != 0, plain, b"".join(rows), kept)


def without_extras(data: bytes, png: Png) -> bytes:
    """Return the file without texts, colour profiles and the later frames of an animation.

    No picture needs them, and they are where a small file unpacks to a large one.
    """
    return b"".join([data[part] for part in png.kept])


def lacks_rows(png: Png) -> bool:
    """Return whether the compressed rows end before the picture does."""
    missing = _unpacked_size(png)
    unpacker = zlib.decompressobj()
    packed = png.rows
    try:
        while missing > 0 and (unpacked := unpacker.decompress(packed, min(missing, _STEP))):
            missing -= len(unpacked)
            packed = unpacker.unconsumed_tail
    except zlib.error:
        return True
    return missing > 0


def _unpacked_size(png: Png) -> int:
    bits = png.depth * _SAMPLES.get(png.colour, 1)
    width, height = png.size
    total = 0
    for left, top, step_x, step_y in _PASSES if png.interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // step_x), -(-(height - top) // step_y)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total


def _shown(name: bytes) -> str:
    return name.decode("ascii") if name.isalpha() else repr(name)
