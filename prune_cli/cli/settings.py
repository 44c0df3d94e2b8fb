"""What is set outside the command line: ``--config FILE`` and variables of the environment, and whether their types fit."""

from __future__ import annotations

import difflib
import functools
import inspect
import tomllib
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from prune_cli.core.errors import InputError

_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list", dict: "a table"}
_LISTS = {int: "a list of whole numbers", float: "a list of numbers"}
_EXAMPLES = {bool: "true", int: "10", float: "0.5"}


@dataclass(frozen=True)
class Setting:
    """One parameter of a command: the parser's object, and the type in the command's signature."""

    parameter: Any
    annotation: Any


def fitting(where: str, key: str, value: Any, setting: Setting) -> Any:
    """Return a value as the parser takes it, which checks it further.

    A text option takes numbers as well, and where it takes a list with commas, also a list.

    Args:
        where: file and table, for the message.
    Raises:
        InputError: the value is of another type than the option.
    """
    kind, several = _plain(setting.annotation)
    commas = not several and "[," in (setting.parameter.metavar or "")
    if isinstance(value, list) and (several or commas):
        items = [_one(item, kind) for item in value]
        if None not in items:
            return items if several else ",".join(items)
    elif not several and (fits := _one(value, kind)) is not None:
        return fits
    wanted, example = (_NAMES.get(kind, "text"), _EXAMPLES.get(kind, '"..."'))
    if several:
        wanted, example = _LISTS.get(kind, "a list of texts"), f"[{example}, {example}]"
    raise InputError(f"{where} {key} = {_as_toml(value)} is {kind_of(value)}, and {wanted} is wanted", f"write {key} = {example}")


def kind_of(value: Any) -> str:
    """Return what a value of a TOML file is, in words.

    >>> kind_of(True), kind_of(1), kind_of([1])
    ('true or false', 'a whole number', 'a list')
    """
    return _NAMES.get(type(value), f"a {type(value).__name__}")


def _one(value: Any, kind: type) -> Any:
    """Return a single value as the parser takes it, or None where its type is another."""
    if kind is bool or isinstance(value, bool):
        return value if kind is bool and isinstance(value, bool) else None
    if kind is int:
        return value if isinstance(value, int) else None
    if kind is float:
        return float(value) if isinstance(value, int | float) else None
    return str(value) if isinstance(value, str | int | float) else None


def _as_toml(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _plain(annotation: Any) -> tuple[type, bool]:
    """Return the type of a parameter's values, and whether it takes several."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return _plain(next(a for a in get_args(annotation) if a is not types.NoneType))
    if get_origin(annotation) is list:
        return _plain(get_args(annotation)[0])[0], True
    return annotation, False


SHARED = frozenset(
    {
        "arch",
        "batch_size",
        "checkpoint_seconds",
        "device",
        "embedding_column",
        "id_column",
        "image_column",
        "image_size",
        "input",
        "label_column",
        "max_errors",
        "max_pixels",
        "memory_limit",
        "precision",
        "prob_column",
        "quiet",
        "root",
        "seed",
        "split",
        "true_label_column",
        "verbose",
        "workers",
    }
)
"""Options that mean the same in every command: ``[defaults]`` and ``PRUNE_NAME`` set them for all that have them."""

DEFAULTS = "defaults"
PREFIX = "PRUNE_"
CONFIG = "PRUNE_CONFIG"


def name_variables(root: Any) -> None:
    """Tell every parameter of every command which variables of the environment it may be set by.

    Args:
        root: the command group as typer made it; changed in place.
    """
    for path, command in _commands(root):
        for name, setting in _settings(command).items():
            parameter = setting.parameter
            own = PREFIX + "_".join([*path, name]).upper().replace("-", "_")
            shared = [PREFIX + name.upper()] if name in SHARED else []
            parameter.envvar = [*(parameter.envvar or ()), own, *shared]
            parameter.show_envvar = False  # one line for all in the documentation, not one for each in --help


def warn_of_unknown_variables(root: Any, environment: Mapping[str, str]) -> list[str]:
    """Return a warning for each ``PRUNE_`` variable that is set and sets nothing.

    Args:
        root: the command group, after `name_variables`.
    """
    known = {CONFIG}
    for _, command in _commands(root):
        for setting in _settings(command).values():
            known.update(setting.parameter.envvar)
    return [
        f"the variable {name} sets nothing{_nearest(name, sorted(known))}"
        for name in sorted(environment)
        if name.startswith(PREFIX) and name not in known
    ]


def read_settings(path: Path, root: Any) -> dict[str, Any]:
    """Return the parser's default map from a settings file: command -> option -> value, groups nested.

    Args:
        path: a TOML file with a table a command, ``[score]``, ``[manifest.export]``, and ``[defaults]`` for options in `SHARED`.
    Raises:
        InputError: no such file, no TOML, a table or key that is not known, or a value of another type than the option's.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else f"it is not UTF-8 text: {error}"
        raise InputError(f"--config {path} cannot be read: {why}", "name a TOML file") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"--config {path} is not TOML: {error}", "mend that line; texts stand in quotes") from None
    shared = found.pop(DEFAULTS, {})
    commands = dict(_commands(root))
    _check_tables(path, found, shared, commands)
    made: dict[str, Any] = {}
    unused = dict(shared)
    for place, command in commands.items():
        settings = _settings(command)
        own = functools.reduce(lambda table, name: table.get(name, {}), place, found)
        values = {k: v for k, v in shared.items() if _normal(k) in settings and _normal(k) in SHARED}
        for key in values:
            unused.pop(key, None)
        checked = _checked(path, DEFAULTS, values, settings) | _checked(path, ".".join(place), own, settings)
        inner = made
        for name in place[:-1]:
            inner = inner.setdefault(name, {})
        inner[place[-1]] = checked
    for key in unused:
        raise InputError(
            f"{path}: [{DEFAULTS}] has no option '{key}'{_nearest(_normal(key), sorted(SHARED))}",
            f"known there: {', '.join(_dashed(n) for n in sorted(SHARED))}; others go into the table of their command",
        )
    return made


def _check_tables(path: Path, found: Mapping[str, Any], shared: Any, commands: Mapping[tuple[str, ...], Any]) -> None:
    """Raise where a table is no command's, or a key stands outside of all tables."""
    groups = {place[:i] for place in commands for i in range(1, len(place))}
    known = ", ".join(f"[{name}]" for name in [DEFAULTS, *(".".join(place) for place in commands)])
    if not isinstance(shared, dict):
        raise InputError(f"{path}: {DEFAULTS} is {kind_of(shared)}, and a table is wanted", f"write [{DEFAULTS}]")

    def check(inner: Mapping[str, Any], outer: tuple[str, ...]) -> None:
        for key, value in inner.items():
            place = (*outer, key)
            if place not in commands and place not in groups:
                name, what = ".".join(place), "table" if isinstance(value, dict) else "key"
                near = _nearest(name, [DEFAULTS, *(".".join(p) for p in commands)])
                where = f"[{'.'.join(outer)}]" if outer else "the top"
                raise InputError(
                    f"{path}: the {what} '{name}' is not known"
                    + (near if what == "table" else f": options stand in the table of a command, not at {where}"),
                    f"tables: {known}",
                )
            if not isinstance(value, dict):
                raise InputError(f"{path}: {'.'.join(place)} is {kind_of(value)}, and a table is wanted", f"write [{key}]")
            if place in groups:
                check(value, place)

    check(found, ())


def _checked(path: Path, table: str, values: Mapping[str, Any], settings: Mapping[str, Setting]) -> dict[str, Any]:
    """Return the values of one table under the names that the parser has for them."""
    made: dict[str, Any] = {}
    for key, value in values.items():
        name = _normal(key)
        if name not in settings:
            known = sorted(settings)
            raise InputError(
                f"{path}: [{table}] has no option '{key}'{_nearest(name, known)}", f"known there: {', '.join(_dashed(n) for n in known)}"
            )
        target = settings[name].parameter.name
        if target in made:
            raise InputError(f"{path}: [{table}] has '{key}' twice, under two spellings", "keep one of them")
        made[target] = fitting(f"{path}: [{table}]", key, value, settings[name])
    return made


def _commands(root: Any, outer: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command below a group with its place, ``("manifest", "export")``."""
    for name, command in root.commands.items():
        place = (*outer, name)
        if hasattr(command, "commands"):
            yield from _commands(command, place)
        else:
            yield place, command


def _settings(command: Any) -> dict[str, Setting]:
    """Return what may be set of a command: by its long names and, arguments, by their own."""
    annotations = {p.name: p.annotation for p in inspect.signature(command.callback).parameters.values()}
    found: dict[str, Setting] = {}
    for parameter in command.params:
        if parameter.is_eager or parameter.name not in annotations:
            continue
        long = [o.lstrip("-").replace("-", "_") for o in parameter.opts if o.startswith("--")]
        for name in dict.fromkeys([*long, parameter.name]):  # in order: of two variables for one option the first one counts
            found[name] = Setting(parameter, annotations[parameter.name])
    return found


def _normal(key: str) -> str:
    return key.replace("-", "_")


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    if not near:
        return ""
    said = near[0] if near[0].isupper() else _dashed(near[0])
    return f": is '{said}' meant?"
