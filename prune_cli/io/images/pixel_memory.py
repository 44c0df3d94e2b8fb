"""Memory that images are decoded into, shared with the processes that decode.

It is a memory file without a name (`memfd`), so it is not bounded by the size of /dev/shm and is gone with the last process that
holds it, however that ends.
"""

from __future__ import annotations

import mmap
import os
import tempfile


class PixelMemory:
    """Memory of one size that other processes can be handed by its descriptor, zero to begin with.

    Where there is no `memfd` (outside Linux, in some sandboxes) it is a temporary file without a name.
    """

    descriptor = -1

    def __init__(self, size: int) -> None:
        try:
            self.descriptor = os.memfd_create("prune-images")
        except (AttributeError, OSError):
            self.descriptor = _nameless_file()
        os.ftruncate(self.descriptor, size)
        self.pixels = mmap.mmap(self.descriptor, size)

    def seal(self) -> mmap.mmap:
        """Return the memory, its descriptor closed: no further process can be handed it."""
        os.close(self.descriptor)
        self.descriptor = -1
        return self.pixels

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


def _nameless_file() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
