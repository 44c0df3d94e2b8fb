from dataclasses import dataclass
from typing import Literal

import pytest

from prune_cli.core.errors import InputError
from prune_cli.core.params import build_params, describe_params, param, split_assignments


@dataclass(frozen=True)
class Example:
    ratio: float = param(1.0, "a share", low=0.0, high=2.0)
    repeats: int = param(1, "a count", low=1)
    center: bool = param(False, "a switch")
    order: Literal["hardest", "easiest"] = param("hardest", "an end")
    limit: float | None = param(None, "maybe")


def test_texts_become_values_of_the_stated_type() -> None:
    texts = {"ratio": "0.5", "repeats": "4", "center": "yes", "order": "easiest", "limit": "none"}
    assert build_params(Example, texts, "m") == Example(0.5, 4, True, "easiest", None)
    assert build_params(Example, {"limit": "3"}, "m").limit == 3.0


def test_nothing_given_is_the_defaults() -> None:
    assert build_params(Example, {}, "m") == Example()


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"no parameter 'ratoi'(?s:.)*ratio \(float, default 1.0\)(?s:.)*hardest\|easiest"):
        build_params(Example, {"ratoi": "1"}, "m")


@pytest.mark.parametrize(
    ("name", "text"),
    [("repeats", "4.5"), ("repeats", "many"), ("ratio", "nan"), ("ratio", "inf"), ("center", "maybe"), ("order", "middle"), ("ratio", "")],
)
def test_a_text_that_does_not_parse_is_refused(name: str, text: str) -> None:
    with pytest.raises(InputError, match="does not parse"):
        build_params(Example, {name: text}, "m")


@pytest.mark.parametrize(
    ("name", "text", "wanted"), [("ratio", "-1", "between 0 and 2"), ("ratio", "2.5", "between"), ("repeats", "0", "at least 1")]
)
def test_a_value_out_of_range_says_the_range(name: str, text: str, wanted: str) -> None:
    with pytest.raises(InputError, match=wanted):
        build_params(Example, {name: text}, "m")


def test_assignments_go_to_every_method_or_to_the_named_one() -> None:
    found = split_assignments(["repeats=4", "cg.ratio = 2"], ["cg", "el2n"])
    assert found == {"cg": {"repeats": "4", "ratio": "2"}, "el2n": {"repeats": "4"}}


@pytest.mark.parametrize("text", ["repeats", "=4", "other.ratio=1"])
def test_an_assignment_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        split_assignments([text], ["cg"])


def test_the_description_repeats_the_dataclass() -> None:
    assert describe_params(Example)[3] == ("order", "hardest|easiest", "hardest", "an end")
