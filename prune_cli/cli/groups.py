"""Groups of options: what belongs together is stated once, as a class, and a command takes it as one value.

``--help``, completion, the settings file and the environment go by single options, so a command's signature is spread for them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, dataclass_transform, get_args, get_origin, get_type_hints

import typer

COLUMNS_LAST = (
    "output", "param", "preset", "test_split", "true_label_column", "image_size", "batch_size", "seed", "max_errors", "work_dir",
    "force", "plan", "list_methods", "shard",
    "id_column", "label_column", "image_column", "embedding_column", "input", "root", "split", "max_pixels",
    "device", "precision", "workers", "memory_limit", "engine", "address",
)  # fmt: skip
"""The order in which ``--help`` lists what commands share: of those that read data."""

COLUMNS_FIRST = (
    "output", "param", "preset", "id_column", "label_column", "embedding_column", "prob_column", "split",
    "device", "workers", "memory_limit", "work_dir", "seed", "max_errors",
    "force", "plan", "list_methods", "engine", "address",
)  # fmt: skip
"""The same of those that read scores, selections or what another tool wrote."""


def opt(names: str, metavar: str | None, help: str, *, default: bool | str = True, complete: Any = None, **more: Any) -> Any:
    """Return what typer is told of an option.

    Args:
        names: with spaces between them.
        metavar: None for a flag.
        default: how help shows it where that is not the value itself.
        complete: what completes its values.
        more: see `typer.Option`.
    """
    return typer.Option(*names.split(), metavar=metavar, help=help, show_default=default, autocompletion=complete, **more)


def arg(metavar: str, help: str, complete: Any = None) -> Any:
    """Return what typer is told of an argument."""
    return typer.Argument(metavar=metavar, help=help, autocompletion=complete)


@dataclass_transform(kw_only_default=True, frozen_default=True, eq_default=False)
class Flags:
    """Options that several commands share: the base of classes whose fields are annotated as typer wants them.

    They are like frozen dataclasses, without the milliseconds that those take to be made, which every ``--help`` would wait for.
    A command that has some of the fields alone says so: ``Annotated[RuntimeFlags, Only("memory_limit")]``. It gets the whole value,
    with the defaults of the others.
    """

    def __init__(self, **values: Any) -> None:
        vars(self).update(values)

    def named(self) -> dict[str, Any]:
        """Return the values as the options of a stage have them: under their names there, read, lists as tuples.

        Raises:
            InputError: a text that cannot be read.
        """
        values = {}
        for name, hint in _hints(type(self)).items():  # type: ignore[arg-type]  # classes have hashes
            there = next((mark for mark in get_args(hint)[1:] if isinstance(mark, As)), As())
            listed = get_origin(next(iter(get_args(get_args(hint)[0])), None)) is list
            value = getattr(self, name)
            values[there.name or name] = tuple(value or ()) if listed else there.read(value)
        return values


@functools.cache
def _hints(group: type[Flags]) -> Mapping[str, Any]:
    """Return the annotations of a group's fields, those of its base first; once for all commands, as they take time."""
    return get_type_hints(group, include_extras=True)


def named(*groups: Flags) -> dict[str, Any]:
    """Return the values of some groups as the options of a stage have them."""
    return {name: value for group in groups for name, value in group.named().items()}


class As:
    """What the options of a stage have in place of a field.

    Args:
        name: of it there, where that is another.
        read: text, or None where none is given -> value.
    """

    def __init__(self, name: str | None = None, read: Callable[[Any], Any] = lambda value: value) -> None:
        self.name, self.read = name, read


class OwnFlags(Flags):
    """Options that one command has, in a group for its own sake."""


class Only:
    """The fields of a group that a command has."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def of(self, names: Sequence[str]) -> list[str]:
        """Return those names of a group's fields that are left."""
        return [name for name in names if name in self._names]


class Without(Only):
    """The fields of a group that a command has not."""

    def of(self, names: Sequence[str]) -> list[str]:
        """Return those names of a group's fields that are left."""
        return [name for name in names if name not in self._names]


def option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """Return one option, or argument, as a parameter of a signature."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


class Spread:
    """The single options of a function that takes groups.

    What a command has of its own, in its signature or in `OwnFlags`, comes first and as it stands there; options that it shares
    follow in the order that is given, or stay where their group stands when that does not name them.

    Args:
        function: takes groups, and options by themselves.
        order: names of options that commands share.
        more: groups beside those of the function.
        eager: options beside all these: they act when they are parsed, and nobody takes their values.
    """

    def __init__(
        self, function: Callable[..., Any], order: Sequence[str], more: Mapping[str, type[Flags]], eager: Sequence[inspect.Parameter]
    ) -> None:
        self._groups: dict[str, tuple[type[Flags], list[inspect.Parameter]]] = {}
        self._eager = {one.name for one in eager}
        hints = {**get_type_hints(function, include_extras=True), **more}
        hints.pop("return", None)
        parameters = inspect.signature(function).parameters
        own: list[inspect.Parameter] = []
        shared = list(eager)
        last: list[inspect.Parameter] = []
        for name, hint in hints.items():
            taken = _options_of(hint)
            if taken is None:
                own.append(option(name, hint, parameters[name].default))
                continue
            self._groups[name] = taken
            if name in more:
                last += taken[1]
                continue
            for one in taken[1]:
                placed = one.name in order and not issubclass(taken[0], OwnFlags)
                (shared if placed else own).append(one)
        self.options = [*own, *sorted(shared, key=lambda one: order.index(one.name)), *last]

    def gathered(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of single options as the function takes them, groups made."""
        left = {name: value for name, value in values.items() if name not in self._eager}
        made = {name: group(**{one.name: left.pop(one.name) for one in options}) for name, (group, options) in self._groups.items()}
        return {**left, **made}


def _options_of(hint: Any) -> tuple[type[Flags], list[inspect.Parameter]] | None:
    """Return a group with those of its fields that a parameter takes, or None where it is an option by itself."""
    group, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    if not (isinstance(group, type) and issubclass(group, Flags)):
        return None
    hints = _hints(group)  # type: ignore[arg-type]  # classes have hashes
    names = list(hints)
    for mark in marks:
        names = mark.of(names)
    return group, [option(name, hints[name], getattr(group, name, inspect.Parameter.empty)) for name in names]
