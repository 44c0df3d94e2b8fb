"""PNG files: what can be told of one without decoding it, and many small ones of one size decoded together."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image

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


_SMALL = 1 << 16
_TOGETHER = 1 << 18

_chunk_head = struct.Struct(">I4s").unpack_from
_checksum = struct.Struct(">I").unpack_from


class PngBatch:
    """Plain PNG files (8 bit grey or RGB, neither interlaced nor transparent nor turned) of one size, in small numbers."""

    def __init__(self, height: int, width: int, channels: int) -> None:
        self._mode = "L" if channels == 1 else "RGB"
        self._width, self._height = width, height
        self._row = 1 + width * channels
        self._unpacked = height * self._row
        self._begin = _begin(width, height, GREY if channels == 1 else RGB)
        self._rows: list[bytes] = []
        self._positions: list[int] = []

    @property
    def worthwhile(self) -> bool:
        """Whether pictures of this size gain by being taken together."""
        return self._unpacked <= _SMALL

    @property
    def full(self) -> bool:
        """Whether it is time to take the pictures out."""
        return len(self._rows) * self._unpacked >= _TOGETHER

    def add(self, position: int, data: bytes) -> bool:
        """Return whether this file is taken in; one with anything unusual or wrong about it is not."""
        packed = self._packed_rows(data)
        if packed is None:
            return False
        unpacker = zlib.decompressobj()
        try:
            rows = unpacker.decompress(packed, self._unpacked + 1)
        except zlib.error:
            return False
        if not unpacker.eof or len(rows) != self._unpacked or max(rows[:: self._row]) > 4:  # there are filters 0 to 4
            return False
        self._rows.append(rows)
        self._positions.append(position)
        return True

    def take(self) -> Iterator[tuple[int, bytes]]:
        """Yield position and pixels of every picture taken in since the last time."""
        if not self._rows:
            return
        tall = (self._width, len(self._rows) * (self._height + 1) - 1)
        packed = zlib.compress(bytes(self._row).join(self._rows), 0)
        pixels = Image.frombytes(self._mode, tall, packed, "zip", self._mode).tobytes()
        size = self._height * (self._row - 1)
        for number, position in enumerate(self._positions):
            start = number * (size + self._row - 1)
            yield position, pixels[start : start + size]
        self._rows.clear()
        self._positions.clear()

    def _packed_rows(self, data: bytes) -> bytes | None:
        if not data.startswith(self._begin):
            return None
        end, place = len(data), len(self._begin)
        rows: list[bytes] = []
        while place + 12 <= end:
            length, name = _chunk_head(data, place)
            stop = place + 8 + length
            if stop + 4 > end or zlib.crc32(data[place + 4 : stop]) != _checksum(data, stop)[0]:
                return None
            if name == b"IDAT":
                rows.append(data[place + 8 : stop])
            elif name == b"IEND":
                return rows[0] if len(rows) == 1 else b"".join(rows)
            elif name == b"tRNS" or name == b"eXIf":
                return None
            place = stop + 4
        return None


def _begin(width: int, height: int, colour: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + header + struct.pack(">I", zlib.crc32(header))
