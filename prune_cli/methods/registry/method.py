"""An entry of the registry: plain data; nothing heavy is imported until `Method.load` is called."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Direction = Literal["harder", "easier"]
Kind = Literal["score", "selection", "recipe", "structure"]
Needs = Literal["kernel", "record", "features", "relabels"]
Uses = Literal["score", "features", "labels", "probabilities"]


@dataclass(frozen=True)
class Method:
    """One entry of the registry.

    Args:
        name: what the user types.
        kind: ``score`` (a number per sample), ``selection`` (which samples), ``recipe`` (how to train) or ``structure`` (what
            becomes of the network meanwhile).
        module: import path of the module.
        function: name of the public function in it.
        params: name of its parameter dataclass in the same module.
        summary: one line for ``--list-methods``.
        cost: time and memory in words and symbols.
        source: paper or origin.
        columns: score columns it can return -> the direction of a high value.
        needs: what a score is computed from: ``kernel`` (inner products of pixels or embeddings as they are), ``record`` (what a
            training run or a model says of each sample), ``features`` (a network's embeddings, or those given) or ``relabels``
            (the new labels of a run). What it needs of a kernel or a record its parameters say.
        uses: what a selection cannot do without.
        beside: score columns that a selection goes by beside its key, where they are there.
        nested: whether a selection's answer for a budget holds its answer for every smaller one.
        tries: whether a selection tries several answers, and returns the curve of them.
        in_classes: whether it is published as chosen inside each class, which is then the default where there are labels. Of a score:
            whether those that go by it alone are; of a selection, ``by_score`` leaves that to the score.
        classes_itself: whether a selection keeps the classes' proportion itself, instead of running inside each class.
        reads_blocks: whether a selection reads features block by block, so that they need not fit the memory.
        seeded: whether a selection is drawn by chance, so that another seed gives other rows.
        shares_batches: whether several processes may share the batches of a recipe: it keeps nothing of single samples.
        aliases: other names the user may type.
    """

    name: str
    kind: Kind
    module: str
    function: str
    params: str
    summary: str
    cost: str
    source: str
    columns: Mapping[str, Direction] = field(default_factory=dict)
    needs: Needs | None = None
    uses: tuple[Uses, ...] = ()
    beside: tuple[str, ...] = ()
    nested: bool = True
    tries: bool = False
    in_classes: bool | Literal["by_score"] = False
    classes_itself: bool = False
    reads_blocks: bool = False
    seeded: bool = False
    shares_batches: bool = False
    aliases: tuple[str, ...] = ()

    def load(self) -> Callable[..., Any]:
        """Return the method's function, importing its module."""
        return getattr(importlib.import_module(self.module), self.function)  # type: ignore[no-any-return]

    def params_class(self) -> type:
        """Return the method's parameter dataclass, importing its module (which imports nothing heavy by itself)."""
        return getattr(importlib.import_module(self.module), self.params)  # type: ignore[no-any-return]
