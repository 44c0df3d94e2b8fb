"""Parameters of a method: ``NAME=VALUE`` on the command line, a frozen dataclass with defaults in the code.

The dataclass is the one place where a parameter's name, type, default, range and help stand. A field is made with
`param`; its type is one of ``int``, ``float``, ``bool``, ``str``, a ``Literal`` of strings, or one of these ``| None``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from prune_cli.core.errors import InputError

ParamsT = TypeVar("ParamsT")
Value = int | float | bool | str | None

_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0"}


def param(default: Value, help: str, *, low: float | None = None, high: float | None = None) -> Any:
    """Return a dataclass field with its default, its help line and its inclusive range."""
    return dataclasses.field(default=default, metadata={"help": help, "low": low, "high": high})


def describe_params(params_class: type) -> list[tuple[str, str, Value, str]]:
    """Return (name, type, default, help) of every parameter, in the order of the dataclass."""
    hints = get_type_hints(params_class)
    return [
        (f.name, _type_name(hints[f.name]), f.default, f.metadata.get("help", ""))  # type: ignore[misc]
        for f in dataclasses.fields(params_class)
    ]


def build_params(params_class: type[ParamsT], values: Mapping[str, str | Value], owner: str) -> ParamsT:
    """Return the dataclass with ``values`` (texts are parsed) over its defaults.

    Args:
        params_class: a frozen dataclass whose fields were made by `param`.
        values: parameter name to text or value.
        owner: the method's name, for messages.
    Raises:
        InputError: an unknown name, a text that does not parse, a value out of range; the message lists what is known.
    """
    hints = get_type_hints(params_class)
    fields = {f.name: f for f in dataclasses.fields(params_class)}  # type: ignore[arg-type]
    parsed: dict[str, Value] = {}
    for name, value in values.items():
        if name not in fields:
            known = ", ".join(f"{n} ({_type_name(hints[n])}, default {f.default})" for n, f in fields.items())
            raise InputError(f"{owner} has no parameter '{name}'", f"use one of: {known or 'none, it takes no parameter'}")
        result = _parse(value, hints[name], f"{owner}: {name}") if isinstance(value, str) else value
        _check_range(result, fields[name].metadata, f"{owner}: {name}")
        parsed[name] = result
    return params_class(**parsed)


def split_assignments(
    assignments: Iterable[str], owners: Mapping[str, type] | Sequence[str], *, by_prefix: Sequence[str] = ()
) -> dict[str, dict[str, str]]:
    """Return ``{owner: {name: text}}`` from ``NAME=VALUE`` and ``OWNER.NAME=VALUE`` texts.

    A plain ``NAME=VALUE`` goes to every owner that has the parameter (to all of them where none has it, so that they can
    say so); with an owner's name in front, to that one alone.

    Args:
        assignments: texts.
        owners: name -> parameter dataclass, or names alone, which then take any parameter.
        by_prefix: owners that take no plain assignment.
    Raises:
        InputError: no ``=``, an empty name, or an owner that does not run here.
    """
    result: dict[str, dict[str, str]] = {owner: {} for owner in owners}
    plain = [owner for owner in owners if owner not in by_prefix]
    for text in assignments:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise InputError(f"-p {text!r} is not NAME=VALUE", "write it as -p repeats=4")
        owner, dot, rest = name.partition(".")
        if dot and owner not in result:
            raise InputError(f"-p {text!r} names the method '{owner}', which does not run here", f"methods: {', '.join(owners)}")
        if dot:
            result[owner][rest] = value.strip()
            continue
        taking = [o for o in plain if not isinstance(owners, Mapping) or name in {f.name for f in dataclasses.fields(owners[o])}]
        if not taking and len(plain) > 1 and isinstance(owners, Mapping):
            known = [f"{o}.{f.name}" for o in plain for f in dataclasses.fields(owners[o])]
            raise InputError(f"no method that runs here has a parameter '{name}'", f"use one of: {', '.join(known)}")
        for target in taking or plain:
            result[target][name] = value.strip()
    return result


def _parse(text: str, kind: Any, where: str) -> Value:
    options = _alternatives(kind)
    if type(None) in options and text.lower() in {"none", "null", ""}:
        return None
    for option in options:
        if option is type(None):
            continue
        if get_origin(option) is Literal:
            if text in get_args(option):
                return text
        elif option is bool:
            if text.lower() in _TRUE | _FALSE:
                return text.lower() in _TRUE
        elif option is str:
            return text
        else:
            with contextlib.suppress(ValueError):
                number = option(text)
                if not isinstance(number, float) or math.isfinite(number):
                    return number  # type: ignore[no-any-return]
    raise InputError(f"{where}={text!r} does not parse", f"give {_type_name(kind)}")


def _check_range(value: Value, metadata: Mapping[str, Any], where: str) -> None:
    low, high = metadata.get("low"), metadata.get("high")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if (low is not None and value < low) or (high is not None and value > high):
        if high is None:
            wanted = f"at least {low:g}"
        elif low is None:
            wanted = f"at most {high:g}"
        else:
            wanted = f"between {low:g} and {high:g}"
        raise InputError(f"{where}={value} is out of range", f"give a value {wanted}")


def _alternatives(kind: Any) -> list[Any]:
    return list(get_args(kind)) if get_origin(kind) in (Union, types.UnionType) else [kind]


def _type_name(kind: Any) -> str:
    names = []
    for option in _alternatives(kind):
        if get_origin(option) is Literal:
            names.append("|".join(str(a) for a in get_args(option)))
        else:
            names.append({"NoneType": "none", "str": "text"}.get(option.__name__, option.__name__))
    return "|".join(names)
