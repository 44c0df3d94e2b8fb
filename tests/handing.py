"""Blocks handed out as if to another machine: values through JSON, arrays copied and protected, the last block first."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from prune_cli.engines.here import Here
from prune_cli.engines.work import Arrays, Block


class Elsewhere:
    """Runs blocks in this process, from copies of what they are sent; ``handed`` has them."""

    elsewhere = True

    def __init__(self) -> None:
        self.handed: list[Block] = []

    def __call__(
        self,
        task: str,
        function: str,
        blocks: Sequence[Block],
        *,
        shared: Arrays | None = None,
        in_threads: bool = False,
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yield the answers in the order of the blocks."""
        self.handed.extend(blocks)
        common = _copied(shared or {})
        sent = [Block(b.name, json.loads(json.dumps(b.values)), _gatherer(b)) for b in blocks]
        yield from [*Here()(task, function, sent[::-1], shared=common)][::-1]


def _gatherer(block: Block) -> Any:
    return lambda: _copied(block.gather())


def _copied(arrays: Arrays) -> dict[str, np.ndarray]:
    copies = {name: values.copy() for name, values in arrays.items()}
    for values in copies.values():
        values.flags.writeable = False
    return copies
