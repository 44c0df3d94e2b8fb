"""How many rows of each class are wanted: ``--quota`` as text, and as numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prune_cli.core.errors import InputError
from prune_cli.io.ids.columns import Labels, some
from prune_cli.stages.select.budgets import row_count

_SHARE = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)%")


@dataclass(frozen=True)
class Quota:
    """Most rows of a class: a number, or a share of its rows.

    Args:
        count: rows, or None.
        share: above 0 and at most 1 where ``count`` is None.
    """

    count: int | None
    share: float = 0.0

    def rows(self, size: int) -> int:
        """Return how many rows of a class of this size."""
        return self.count if self.count is not None else min(size, row_count(self.share, size))


def parse_quota(text: str) -> tuple[str | None, Quota]:
    """Return the class that a quota is for, None for the rest, and the quota.

    The class goes up to the last ``=``.

    >>> parse_quota("100"), parse_quota("a=b=50%")
    ((None, Quota(count=100, share=0.0)), ('a=b', Quota(count=None, share=0.5)))
    """
    name, equals, amount = text.rpartition("=")
    if amount.isascii() and amount.isdigit():
        return (name if equals else None), Quota(int(amount))
    share = _SHARE.fullmatch(amount)
    if share is not None and 0 < float(share[1]) <= 100:
        return (name if equals else None), Quota(None, float(share[1]) / 100)
    raise InputError(
        f"--quota {text!r} is not a number of rows, nor a share above 0% and up to 100%",
        "write 500, 10%, CLASS=500 or CLASS=10%",
    )


def quotas_of(texts: Sequence[str], labels: Labels) -> np.ndarray:
    """Return (C,) int64, most rows of each class.

    Args:
        texts: of ``--quota``.
        labels: of all rows; a share is of the rows of the class. Classes go by their names, and by their values.
    Raises:
        InputError: no quota, one twice, a class that is not there, or one that has none.
    """
    names = labels.display_names()
    code_of = {str(value): code for code, value in enumerate(labels.classes)} | {n: c for c, n in enumerate(names)}
    rest: Quota | None = None
    wanted: dict[int, Quota] = {}
    for text in texts:
        name, quota = parse_quota(text)
        if name is None:
            if rest is not None:
                raise InputError("--quota is given twice for the classes that are not named", "give it once")
            rest = quota
        elif name not in code_of:
            raise InputError(f"--quota {text!r}: no class '{name}'; there are {some(names, 20)}", "name one of them")
        elif code_of[name] in wanted:
            raise InputError(f"--quota names the class '{name}' twice", "name it once")
        else:
            wanted[code_of[name]] = quota
    if not texts:
        raise InputError("--how quota needs a quota", "give the rows of a class: --quota 500, or --quota 10%")
    without = [name for code, name in enumerate(names) if code not in wanted]
    if rest is None:
        if without:
            raise InputError(
                f"no quota for the class {some(without)}", "give one for the rest: --quota 500, or --quota 0"
            )
        rest = Quota(0)
    sizes = np.bincount(labels.codes_n[labels.codes_n >= 0], minlength=len(names))
    return np.array([wanted.get(code, rest).rows(int(size)) for code, size in enumerate(sizes)], np.int64)
