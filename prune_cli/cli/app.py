"""The entry point: the commands, and errors as exit codes."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from prune_cli import __version__
from prune_cli.cli import choices, compare, manifest, score, select, settings, telling, train
from prune_cli.cli.command import SETTINGS_FILE, WARNINGS, Command
from prune_cli.cli.console import Console
from prune_cli.cli.streams import abandon, settle_streams
from prune_cli.core.errors import ClosedPipeError, InputError, InterruptedRun, PruneError
from prune_cli.core.launch import read_launch
from prune_cli.core.runtime import share_cores

DEFECT = 70
"""EX_SOFTWARE: an error that is ours."""

app = typer.Typer(
    name="prune",
    help="Train on less and cleaner data: score, select, train, evaluate. Each command reads files and writes files.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        Console().result(f"prune {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version, then stop.")] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            envvar=settings.CONFIG,
            help="TOML file with options: a table a command, [score], and [defaults] for all.",
            show_default=False,
        ),
    ] = None,
) -> None:
    if context.invoked_subcommand != "train" and read_launch(os.environ).size > 1:
        raise InputError(f"prune {context.invoked_subcommand} runs in one process", "start it without torchrun")
    context.meta[WARNINGS] = settings.warn_of_unknown_variables(context.command, os.environ)
    if config is not None:
        context.default_map = settings.read_settings(config, context.command)
        context.meta[SETTINGS_FILE] = config


app.command("score", cls=Command)(score.score)
app.command("select", cls=Command)(select.select)
app.command("train", cls=Command)(train.train)
app.command("evaluate", cls=Command)(telling.evaluate)
app.command("compare", cls=Command)(compare.compare)
app.command("report", cls=Command)(telling.report)
app.add_typer(manifest.app, name="manifest")
app.command("doctor", cls=Command)(telling.doctor)
app.command("completion", cls=Command)(choices.completion)


def main() -> None:
    """Run ``prune`` with the process's arguments and exit with its code."""
    settle_streams()
    share_cores(os.environ)
    choices.offer_completions(os.environ)
    sys.exit(invoke(sys.argv[1:]))


def invoke(arguments: list[str]) -> int:
    """Run one command line and return its exit code. Tracebacks are shown with ``-vv`` alone."""
    click_error = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
    try:
        _refuse_other_encodings(arguments)
        group = typer.main.get_command(app)
        settings.name_variables(group)
        result = group.main(args=arguments, prog_name="prune", standalone_mode=False)
        _flush()
        return result if isinstance(result, int) else 0
    except ClosedPipeError as error:
        abandon(sys.stdout)
        return error.exit_code
    except PruneError as error:
        return _failed(str(error), error.exit_code, arguments)
    except (KeyboardInterrupt, typer.Abort):
        return _failed("interrupted", InterruptedRun.exit_code, arguments)
    except OSError as error:
        abandon(sys.stdout)
        return _failed(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", 2, arguments)
    except MemoryError as error:
        return _failed(f"out of memory: {error}\n  cure: --plan says how much a run needs", 2, arguments)
    except click_error as error:  # type: ignore[misc]
        error.show()
        return int(error.exit_code)
    except SystemExit as exit:
        return exit.code if isinstance(exit.code, int) else 1
    except Exception as error:
        message = f"a defect of prune, not of your data: {type(error).__name__}: {error}"
        return _failed(f"{message}\n  cure: run it again with -vv and report what that prints", DEFECT, arguments)


def _refuse_other_encodings(arguments: list[str]) -> None:
    """Refuse names that are no text, which neither a manifest nor a report could hold.

    Raises:
        InputError: a name that is not UTF-8, or that this locale does not read as such.
    """
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            name = os.fsencode(argument)
            with contextlib.suppress(UnicodeDecodeError):
                shown = name.decode()
                raise InputError(
                    f"this locale cannot name {shown.encode('ascii', 'backslashreplace').decode()}",
                    "set one of UTF-8: export LC_ALL=C.UTF-8",
                ) from None
            raise InputError(f"a name is not UTF-8: {name!r}", "rename the file, or the folder it is in") from None


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise ClosedPipeError("standard output is closed") from None
    except OSError:
        abandon(sys.stdout)


def _failed(message: str, code: int, arguments: list[str]) -> int:
    if any(a == "-vv" for a in arguments) or sum(a in {"-v", "--verbose"} for a in arguments) > 1:
        traceback.print_exc()
    Console().error(message)
    return code
