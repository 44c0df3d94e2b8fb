"""What surrounds every stage: Ctrl-C is heard even where a library swallows it."""

import os
import signal

import pytest
import typer

from prune_cli.cli.command import run
from prune_cli.cli.options.runtime import PrintFlags
from prune_cli.core.errors import InterruptedRun
from prune_cli.stages.frame.outcome import Outcome


def test_a_swallowed_ctrl_c_stops_the_run_at_the_next_progress() -> None:
    before = signal.getsignal(signal.SIGINT)

    def stage(progress):  # type: ignore[no-untyped-def]
        progress("working", 0, 2)
        try:
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
        except KeyboardInterrupt:
            pass
        progress("working", 1, 2)
        raise AssertionError("went on after Ctrl-C")

    with pytest.raises(InterruptedRun):
        run(stage, PrintFlags(quiet=True))
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(("verdict", "code"), [(True, 0), (False, 1)])
def test_a_verdict_is_an_exit_code(verdict: bool, code: int) -> None:
    with pytest.raises(typer.Exit) as caught:
        run(lambda progress: Outcome(verdict=verdict), PrintFlags(quiet=True))
    assert caught.value.exit_code == code
