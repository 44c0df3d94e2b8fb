"""Values that a shell completes, and ``prune completion``: names straight from the registry, without loading what they name."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, MutableMapping
from typing import Annotated

import typer

from prune_cli.cli.console import Console
from prune_cli.cli.groups import arg, opt
from prune_cli.core.errors import InputError
from prune_cli.methods.registry.lookup import PRESETS, methods_of
from prune_cli.methods.registry.method import Kind

_KINDS: dict[str, Kind] = {"score": "score", "select": "selection", "top-up": "selection", "train": "recipe", "compare": "recipe"}
"""Command -> the kind of method its presets are of."""

Choice = tuple[str, str]
"""A value and the word that a shell shows beside it."""

_HELP_COLUMNS = 60


def methods(kind: Kind) -> Callable[[str], list[Choice]]:
    """Return what completes the names of a kind of methods: the last one of a list with commas."""

    def complete(incomplete: str) -> list[Choice]:
        before, comma, _ = incomplete.rpartition(",")
        taken = set(before.split(","))
        return [
            (f"{before}{comma}{name}", textwrap.shorten(method.summary, _HELP_COLUMNS, placeholder=" ..."))
            for method in methods_of(kind).values()
            for name in (method.name, *method.aliases)
            if name not in taken
        ]

    return complete


def presets(context: typer.Context) -> list[Choice]:
    """Return the presets that say something to the command, with the methods they are for."""
    kind = _KINDS.get(context.info_name or "")
    return [(name, f"for {', '.join(kinds[kind])}") for name, kinds in PRESETS.items() if kind is not None and kind in kinds]


def architectures() -> list[Choice]:
    """Return the networks that we have; torchvision's are named after a colon."""
    from prune_cli.methods.training.networks.architectures import NETWORKS

    widths = {name: known.width for name, known in NETWORKS.items()}
    return [(name, f"width {width}" if width is not None else "no width") for name, width in widths.items()]


def among(names: Iterable[str]) -> Callable[[], list[Choice]]:
    """Return what completes one of some names."""
    return lambda: [(name, "") for name in names]


def listed(summaries: Iterable[str]) -> str:
    """Return what help says of the entries of a table.

    >>> listed(["ids", "csv", "folder"])
    'ids, csv or folder.'
    """
    *first, last = summaries
    return f"{', '.join(first)} or {last}."


ASKED = "_PRUNE_COMPLETE"
"""The variable by which a shell asks for completions; both names of the command are asked under the same."""

SHELLS = ("bash", "zsh", "fish")


def offer_completions(environment: MutableMapping[str, str]) -> None:
    """Get ready to answer a shell, where one asks."""
    if ASKED in environment:
        from typer.completion import completion_init  # type: ignore[attr-defined]

        completion_init()


def completion(
    shell: Annotated[str, arg("bash|zsh|fish", "The shell to complete in.", complete=lambda: list(SHELLS))],
    program: Annotated[str, opt("--program", "NAME", "Command that is completed: prune or prune-cli.")] = "prune",
) -> None:
    """Print the script that completes commands, options, methods, presets and networks; nothing is installed.

    bash, in ~/.bashrc: source <(prune completion bash)

    zsh, in ~/.zshrc after compinit: source <(prune completion zsh)

    fish: prune completion fish > ~/.config/fish/completions/prune.fish
    """
    if shell not in SHELLS:
        raise InputError(f"no completion for the shell {shell!r}", f"use one of: {', '.join(SHELLS)}")
    if program not in {"prune", "prune-cli"}:
        raise InputError(f"--program {program!r} is no name of this command", "use prune or prune-cli")
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    Console().result(get_completion_script(prog_name=program, complete_var=ASKED, shell=shell))
