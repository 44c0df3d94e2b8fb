"""Functions of blocks and jobs that look like the package's own, in this process and in workers: as the module prune_cli.made."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from prune_cli.core.errors import NumericalError
from prune_cli.engines.engine import Block

DOUBLE = "prune_cli.made:double"
WORK = 1e12
"""Flops enough for processes."""

START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); import made_blocks; sys.modules['prune_cli.made'] = made_blocks; "
    "from prune_cli.engines.serving import serve; serve(sys.argv[2], json.loads(sys.argv[3]))"
)
"""Starts a worker that has this module."""


def blocks_of(count: int, flops: float = 0.0, **values: Any) -> list[Block]:
    """Return blocks for `double`."""
    return [Block(f"block {n}", values, lambda n=n: {"x": np.array([n, n + 0.5])}, flops=flops) for n in range(count)]  # type: ignore[misc]


def double(values: Mapping[str, Any], arrays: Mapping[str, np.ndarray], progress: Any) -> dict[str, np.ndarray]:
    """Return twice ``x``, on how many threads and in which process; or what ``values`` want to happen."""
    import torch

    if values.get("kills") and Path(values["kills"]).exists():
        Path(values["kills"]).unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    if values.get("always_kills"):
        os.kill(os.getpid(), signal.SIGKILL)
    if values.get("raises"):
        raise NumericalError("no number", "take another")
    if values.get("fills_memory"):
        raise MemoryError("8 EiB")
    sys.stdout.write("libraries print what they like\n")
    sys.stdout.flush()
    return {
        "twice": 2 * arrays["x"],
        "threads": np.array(torch.get_num_threads()),
        "pid": np.array(process_number()),
        "card": np.array(int(os.environ.get("CUDA_VISIBLE_DEVICES") or -1)),
    }


def process_number() -> int:
    """Return the number of this process, or of the client of `warm` that it works for."""
    return int(os.environ.get("WARM_PID", os.getpid()))


def variable(name: str) -> str | None:
    """Return a variable of the environment."""
    return os.environ.get(name)


def sleep(folder: str) -> None:
    """Leave a file named by this process, and sleep."""
    (Path(folder) / str(os.getpid())).touch()
    while True:
        time.sleep(3600)


def answer_with_number(settings: Any) -> Any:
    """Return what answers with the question and the process's number; a question of a file is answered once that is there."""

    def answer(question: Any, buffers: Any) -> Any:
        while isinstance(question, str) and not Path(question).exists():
            time.sleep(0.01)
        return [settings, question, process_number()], buffers

    return answer
