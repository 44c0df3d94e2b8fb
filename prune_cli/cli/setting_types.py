"""Values of a settings file: whether their types are those of the options, and how the parser takes them."""

from __future__ import annotations

import types
from dataclasses import dataclass
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
        key: as the file has it.
        value: as TOML has it.
        setting: what it is for.
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
    raise InputError(
        f"{where} {key} = {_as_toml(value)} is {kind_of(value)}, and {wanted} is wanted", f"write {key} = {example}"
    )


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
