"""What every command does beside its own work: settings heeded, its stage run with progress and Ctrl-C, the outcome printed."""

from __future__ import annotations

import contextlib
import inspect
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from prune_cli.cli.console import Console
from prune_cli.cli.groups import COLUMNS_LAST, Spread, option
from prune_cli.cli.options.runtime import PrintFlags
from prune_cli.core.errors import InterruptedRun
from prune_cli.core.launch import read_launch
from prune_cli.core.progress import Progress, silent
from prune_cli.methods.registry.method import Kind
from prune_cli.stages.frame.outcome import Outcome

Stage = Callable[[Progress], Outcome]
"""The work of a command, its options settled."""


def run(stage: Stage, printing: PrintFlags) -> None:
    """Run one stage and print what it did, unless another process leads.

    Raises:
        typer.Exit: with the exit code, unless another process leads; errors go through.
    """
    if not read_launch(os.environ).leads:
        try:  # it prints errors only, but for the wish to stop, which the other tells
            stage(silent)
        except InterruptedRun as error:
            raise typer.Exit(error.exit_code) from None
        return
    console = Console(printing.level, printing.json)
    try:
        with console.progress() as progress, _interruptible(progress) as watched:
            outcome = stage(watched)
    except KeyboardInterrupt:
        raise InterruptedRun("interrupted") from None
    console.show(outcome)
    raise typer.Exit(0 if outcome.verdict else 1)


_OUTPUTS = frozenset(("output", "save_dynamics", "save_features", "save_kernel", "plots", "work_dir"))
"""Names of parameters that say what a command writes."""


def _inputs(params: Mapping[str, Any]) -> list[str]:
    """Return the locations that the command line names beside what it writes: whatever is a file, a folder or an object."""
    from prune_cli.io.stores.locations import is_remote

    found = []
    for name, value in params.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            if name not in _OUTPUTS and isinstance(one, str | Path) and (is_remote(str(one)) or os.path.exists(one)):  # noqa: PTH110
                found.append(str(one))
    return found


@contextlib.contextmanager
def _interruptible(progress: Progress) -> Iterator[Progress]:
    """Yield the progress sink, made to remember a Ctrl-C: some libraries swallow the first one while they are imported."""
    heard = False

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal heard
        heard = True
        raise KeyboardInterrupt

    def watched(task: str, done: int, total: int, facts: Mapping[str, float] | None = None) -> None:
        if heard:
            raise KeyboardInterrupt
        progress(task, done, total, facts)

    try:
        before = signal.signal(signal.SIGINT, remember)
    except ValueError:  # not the main thread, which alone hears signals
        yield watched
        return
    try:
        yield watched
    finally:
        signal.signal(signal.SIGINT, before)


ALTERNATIVES = (("fraction", "count", "threshold"), ("epochs", "steps"), ("quiet", "verbose"))
"""Options that stand for one another: where one is given nearer to the user, the others are as if they were not."""

SETTINGS_FILE, WARNINGS = "prune_cli.settings_file", "prune_cli.warnings"
_WORDS = "prune_cli.words"
_NEARNESS = ("COMMANDLINE", "ENVIRONMENT", "DEFAULT_MAP")


def command(*, order: Sequence[str] = COLUMNS_LAST, lists: Sequence[Kind] = ()) -> Callable[[Callable[..., Stage]], Callable[..., None]]:
    """Return what makes a command of a function from options, or groups of them, to the stage that is to run.

    Args:
        order: of the options that commands share; see `Spread`.
        lists: the kinds of methods that ``--list-methods`` shows; none for a command without it.
    """

    eager = [option("list_methods", _list_methods(lists), False)] if lists else []

    def make_command(stage_of: Callable[..., Stage]) -> Callable[..., None]:
        spread = Spread(stage_of, order, {"printing": PrintFlags}, eager)

        def run_stage(**values: Any) -> None:
            _require_local_paths(values)
            gathered = spread.gathered(values)
            printing = gathered.pop("printing")
            run(stage_of(**gathered), printing)

        run_stage.__doc__ = stage_of.__doc__
        run_stage.__name__ = stage_of.__name__
        run_stage.__signature__ = inspect.Signature(spread.options)  # type: ignore[attr-defined]
        run_stage.__annotations__ = {one.name: one.annotation for one in spread.options}
        return run_stage

    return make_command


def _require_local_paths(values: Mapping[str, Any]) -> None:
    """Raise where an option that takes a path of this machine is given a location in a store."""
    from prune_cli.io.stores.locations import require_local

    for name, value in values.items():
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, Path):
                require_local(path, f"--{name.replace('_', '-')}")


def _list_methods(kinds: Sequence[Kind]) -> Any:
    """Return the option ``--list-methods`` of some kinds of methods; with ``--json`` beside it, one JSON object."""

    def show(context: typer.Context, wanted: bool) -> bool:
        if wanted and not context.resilient_parsing:  # which is how a shell asks for completions
            from prune_cli.cli.listing import list_methods

            list_methods(kinds, as_json="--json" in context.meta.get(_WORDS, ()))
            raise typer.Exit
        return wanted

    return Annotated[
        bool,
        typer.Option(
            "--list-methods", is_eager=True, callback=show, help="Every method with parameters, defaults, cost, source; then stop."
        ),
    ]


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
        printing = PrintFlags(**{n: v for n, v in ctx.params.items() if n in PrintFlags.__annotations__})
        console = Console(printing.level)
        for warning in ctx.meta.get(WARNINGS, ()):
            console.say(f"prune: warning: {warning}")
        from prune_cli.io.stores.atomic import guarding

        with guarding(_inputs(ctx.params)):
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
            name: source.name for name in names if (source := context.get_parameter_source(name)) is not None and source.name in _NEARNESS
        }
        nearest = min(sources.values(), key=_NEARNESS.index, default=None)
        for name, source in sources.items():
            if source != nearest:
                context.params[name] = defaults[name]
