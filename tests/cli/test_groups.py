"""Groups of options: how a command's signature is spread, and what a stage gets."""

from typing import Annotated, Any

import pytest
import typer

from prune_cli.cli.groups import As, Flags, Only, OwnFlags, Spread, Without, named
from prune_cli.core.errors import InputError


def read_size(text: str | None) -> int | None:
    if text == "?":
        raise InputError("no size", "give one")
    return None if text is None else int(text)


class Shared(Flags):
    output: Annotated[str | None, typer.Option("--output")] = None
    size: Annotated[str | None, typer.Option("--size"), As("nbytes", read_size)] = None
    tags: Annotated[list[str] | None, typer.Option("--tags"), As("labels")] = None


class More(Shared):
    plan: Annotated[bool, typer.Option("--plan")] = False


class Own(OwnFlags):
    plan: Annotated[bool, typer.Option("--plan-of-mine")] = True


def spread(function: Any, order: tuple[str, ...] = ("output", "plan")) -> Spread:
    return Spread(function, order, {}, [])


def test_own_options_come_first_and_shared_ones_in_their_order() -> None:
    def command(more: More, count: Annotated[int, typer.Option("--count")] = 3) -> None: ...

    options = spread(command, ("plan", "output")).options
    assert [one.name for one in options] == ["size", "tags", "count", "plan", "output"]
    assert [one.default for one in options] == [None, None, 3, False, None]


def test_a_group_of_one_command_stays_where_it_stands() -> None:
    def command(own: Own, name: Annotated[str, typer.Argument()]) -> None: ...

    options = spread(command).options
    assert (options[0].name, options[0].default) == ("plan", True)
    assert options[1].default is options[1].empty


def test_some_fields_alone_and_the_values_of_the_others() -> None:
    def command(some: Annotated[Shared, Only("size")], rest: Annotated[More, Without("size", "tags")]) -> None: ...

    made = spread(command)
    assert [one.name for one in made.options] == ["size", "output", "plan"]
    gathered = made.gathered({"size": "7", "output": "o", "plan": True})
    assert named(gathered["some"]) == {"output": None, "nbytes": 7, "labels": ()}
    assert named(gathered["rest"]) == {"output": "o", "nbytes": None, "labels": (), "plan": True}


def test_what_cannot_be_read_says_so() -> None:
    with pytest.raises(InputError, match="no size"):
        Shared(size="?").named()
