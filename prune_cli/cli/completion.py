"""``prune completion``: the script by which a shell completes commands, options and values."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Annotated

import typer

from prune_cli.cli.console import Console
from prune_cli.core.errors import InputError

ASKED = "_PRUNE_COMPLETE"
"""The variable by which a shell asks for completions; both names of the command are asked under the same."""

SHELLS = ("bash", "zsh", "fish")


def offer_completions(environment: MutableMapping[str, str]) -> None:
    """Get ready to answer a shell, where one asks.

    Args:
        environment: of this process.
    """
    if ASKED in environment:
        from typer.completion import completion_init  # type: ignore[attr-defined]

        completion_init()


def completion(
    shell: Annotated[
        str,
        typer.Argument(
            metavar="bash|zsh|fish",
            help="The shell to complete in.",
            show_default=False,
            autocompletion=lambda: list(SHELLS),
        ),
    ],
    program: Annotated[
        str, typer.Option("--program", metavar="NAME", help="Command that is completed: prune or prune-cli.")
    ] = "prune",
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
