"""Errors that a user meets: each names what was found, what was wanted, and the cure, and carries its exit code."""

from __future__ import annotations


class PruneError(Exception):
    """Base of every error that is a message for the user and not a defect of ours.

    Args:
        message: what was found, where, and what was wanted; one sentence, no trailing period needed.
        cure: what to do about it, as an imperative; shown on a line of its own.
    """

    exit_code = 2

    def __init__(self, message: str, cure: str | None = None) -> None:
        super().__init__(message if cure is None else f"{message}\n  cure: {cure}")
        self.message = message
        self.cure = cure


class InputError(PruneError):
    """A file, column, option or parameter is not what it must be: exit code 2, nothing written."""


class NumericalError(PruneError):
    """The numbers do not allow the computation (a singular kernel, a NaN loss): exit code 2, nothing written."""


class BadRowsError(PruneError):
    """More bad rows than ``--max-errors`` allows: exit code 3, only the ledger of bad rows is written."""

    exit_code = 3


class UnavailableError(PruneError):
    """A missing extra or device: exit code 4; the cure is the install line."""

    exit_code = 4


class ClosedPipeError(PruneError):
    """The reader of our standard output went away: exit code 141 (128 + SIGPIPE), without a word."""

    exit_code = 141


class InterruptedRun(PruneError):
    """The user stopped the run (Ctrl-C, SIGTERM): exit code 130."""

    exit_code = 130
