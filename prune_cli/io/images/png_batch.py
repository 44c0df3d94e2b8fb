"""Many small PNG files of one size, decoded together: what is quick for one image of 28 x 28 is mostly call overhead.

The rows of a PNG are packed by zlib after a filter made each byte a difference from its neighbours. Here each file is
unpacked by itself; then the filters of all are undone in one call of Pillow, as if they were one tall picture. Between
two pictures stands an unfiltered row of zeros, which is what the format takes for the row above the first.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from PIL import Image

from prune_cli.io.images.png import GREY, RGB

_SMALL = 1 << 16
_TOGETHER = 1 << 18

_chunk_head = struct.Struct(">I4s").unpack_from
_checksum = struct.Struct(">I").unpack_from


class PngBatch:
    """Plain PNG files (8 bit grey or RGB, neither interlaced nor transparent nor turned) of one size, in small numbers.

    Args:
        height, width, channels: of every picture.
    """

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
