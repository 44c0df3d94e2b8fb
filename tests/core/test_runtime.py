import pytest

from prune_cli.core.errors import InputError
from prune_cli.core.runtime import Runtime, available_memory, parse_size, peak_memory


@pytest.mark.parametrize(("text", "size"), [("4GiB", 2**32), ("4g", 4 * 10**9), ("100", 100), ("1.5 MB", 1_500_000), ("2kib", 2048)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "4 GiBs", "-1", "1e9"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_size(text)


def test_the_budget_is_the_limit_or_three_quarters_of_what_is_free() -> None:
    assert Runtime(memory_limit=5).memory_budget() == 5
    assert 0 < Runtime().memory_budget() <= available_memory()


def test_peak_memory_is_in_bytes() -> None:
    block = bytearray(64 * 2**20)
    assert peak_memory() > len(block)
