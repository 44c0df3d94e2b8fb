"""Blocks handed out as if to another machine: values through JSON, arrays copied and protected, the last block first."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence

import numpy as np

from prune_cli.core.progress import Progress
from prune_cli.engines.engine import Arrays, Block
from prune_cli.engines.threads import run_block


class Elsewhere:
    """An engine that runs blocks in this process, from copies of what they are sent; ``handed`` has them."""

    elsewhere = True

    def __init__(self) -> None:
        self.handed: list[Block] = []

    def run(
        self, function: str, blocks: Sequence[Block], shared: Arrays, progress: Progress, *, in_threads: bool = False
    ) -> Generator[tuple[int, Arrays], None, None]:
        """Yield (number, arrays), the last block first."""
        self.handed.extend(blocks)
        for number, block in [*enumerate(blocks)][::-1]:
            values = json.loads(json.dumps(block.values))
            yield number, run_block(function, values, {**_copied(shared), **_copied(block.gather())})


def _copied(arrays: Arrays) -> dict[str, np.ndarray]:
    copies = {name: values.copy() for name, values in arrays.items()}
    for values in copies.values():
        values.flags.writeable = False
    return copies
