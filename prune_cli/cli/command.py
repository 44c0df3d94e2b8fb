"""What every command does beside its own work: it heeds the settings file and the environment, flag by flag."""

from __future__ import annotations

import os
from typing import Any

import typer
from typer.core import TyperCommand

from prune_cli.cli.console import Console

ALTERNATIVES = (("fraction", "count", "threshold"), ("epochs", "steps"), ("quiet", "verbose"))
"""Options that stand for one another: where one is given nearer to the user, the others are as if they were not."""

SETTINGS_FILE, WARNINGS = "prune_cli.settings_file", "prune_cli.warnings"
_WORDS = "prune_cli.words"
_NEARNESS = ("COMMANDLINE", "ENVIRONMENT", "DEFAULT_MAP")


def typed_words(context: typer.Context) -> list[str]:
    """Return the words of the command line from the command on, before they are told apart."""
    words: list[str] = context.meta.get(_WORDS, [])
    return words


class Command(TyperCommand):
    """A command whose options may also come from a settings file or the environment."""

    def make_parser(self, ctx: Any) -> Any:
        """Return the parser, with ``--no-NAME`` for every flag: a file that sets one is overruled so."""
        parser = super().make_parser(ctx)
        option: Any
        for option in self.get_params(ctx):
            if getattr(option, "is_bool_flag", False) and not option.is_eager and not option.secondary_opts:
                off = [f"--no-{o[2:]}" for o in option.opts if o.startswith("--")]
                parser.add_option(obj=option, opts=off, dest=option.name, action="store_const", const=False)
        return parser

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words, and say of a value that is not allowed where it came from."""
        ctx.meta[_WORDS] = list(args)
        try:
            rest = super().parse_args(ctx, args)
        except typer.BadParameter as error:
            origin = _origin(ctx, error.param)
            if origin is not None:
                error.message = f"{error.message} ({origin})"
            raise
        _settle_alternatives(ctx)
        return rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command, after the warnings about its settings."""
        console = Console(-1 if ctx.params.get("quiet") else 0)
        for warning in ctx.meta.get(WARNINGS, ()):
            console.say(f"prune: warning: {warning}")
        return super().invoke(ctx)


def _origin(context: Any, parameter: Any) -> str | None:
    if parameter is None:
        return None
    source = getattr(context.get_parameter_source(parameter.name), "name", None)
    if source == "DEFAULT_MAP":
        return f"from {context.meta[SETTINGS_FILE]}"
    if source == "ENVIRONMENT":
        return f"from the variable {next(name for name in parameter.envvar if os.environ.get(name))}"
    return None


def _settle_alternatives(context: Any) -> None:
    defaults = {option.name: option.default for option in context.command.params}
    for names in ALTERNATIVES:
        sources = {
            name: source.name
            for name in names
            if (source := context.get_parameter_source(name)) is not None and source.name in _NEARNESS
        }
        nearest = min(sources.values(), key=_NEARNESS.index, default=None)
        for name, source in sources.items():
            if source != nearest:
                context.params[name] = defaults[name]
