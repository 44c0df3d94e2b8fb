"""A worker of Ray's as a fork, which holds its blocks where a test asks for that; see `clusters.LocalCluster`."""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def held(run_block: Callable[..., Any], control: Path, name: str) -> Callable[..., Any]:
    """Return a function of a block that never ends on the node to be lost, and elsewhere begins when that one has begun."""

    def run(*block: Any, **more: Any) -> Any:
        while (control / "lose").exists():
            if (control / "lose").read_text() == name:
                (control / "begun").touch()
            elif (control / "begun").exists():
                break
            time.sleep(0.02)
        return run_block(*block, **more)

    return run


if __name__ == "__main__":
    if "NODE_CONTROL" in os.environ:
        with contextlib.suppress(ImportError):  # as on a node without the package
            from prune_cli.engines import threads

            threads.run_block = held(threads.run_block, Path(os.environ["NODE_CONTROL"]), os.environ["NODE_NAME"])
    from ray._private.workers import default_worker

    for_starter = ("--language=", "--serialized-runtime-env-context=")  # words that the worker itself does not know
    sys.argv = [default_worker.__file__, *(word for word in sys.argv[1:] if not word.startswith(for_starter))]
    runpy.run_path(sys.argv[0], run_name="__main__")
