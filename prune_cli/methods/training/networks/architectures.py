"""Names of networks: what ``--arch NAME[:WIDTH]`` may be, told without loading anything heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prune_cli.core.errors import InputError

TORCHVISION = "torchvision"

DEFAULT_WIDTHS: Mapping[str, int | None] = {
    "linear": None,
    "mlp": 512,
    "lenet5": 6,
    "resnet9": 64,
    "resnet18": 64,
    "resnet20": 16,
    "resnet56": 16,
    "preactresnet18": 64,
    "vgg16": 64,
}
"""Network -> published width of its first layer, None where it has no width; every other layer scales with it."""

FOR_EMBEDDINGS = ("linear", "mlp")
"""Networks that take vectors as well as pictures."""


@dataclass(frozen=True)
class Architecture:
    """A network by name: ``linear``, ``resnet9`` with a width, or ``torchvision`` with a model's name.

    Args:
        name: a key of `DEFAULT_WIDTHS`, or ``torchvision``.
        width: units or filters of the first layer; None where there is no such choice.
        model: torchvision's name of the model; None for our own networks.
    """

    name: str
    width: int | None = None
    model: str | None = None

    def __str__(self) -> str:
        """Return the full form, the width always told, as ``model.json`` keeps it."""
        detail = self.model if self.model is not None else self.width
        return self.name if detail is None else f"{self.name}:{detail}"


def parse_architecture(text: str) -> Architecture:
    """Return the architecture that ``NAME``, ``NAME:WIDTH`` or ``torchvision:NAME`` names.

    Raises:
        InputError: an unknown name, a width that is no positive integer, or a width where there is none to choose.
    Example:
        >>> str(parse_architecture("resnet9:16")), str(parse_architecture("resnet18"))
        ('resnet9:16', 'resnet18:64')
    """
    name, colon, detail = text.strip().partition(":")
    if name == TORCHVISION:
        if not detail:
            raise InputError(f"architecture {text!r} names no model", "write it as torchvision:resnet50")
        if ":" in detail:
            raise InputError(f"architecture {text!r} gives a width", "torchvision models have none: leave it out")
        return Architecture(name, model=detail)
    if name not in DEFAULT_WIDTHS:
        raise InputError(f"unknown architecture {text!r}", f"use one of: {', '.join(known_architectures())}")
    default = DEFAULT_WIDTHS[name]
    if not colon:
        return Architecture(name, default)
    if default is None:
        raise InputError(f"architecture {text!r} gives a width, and {name} has none", f"write it as {name}")
    if not (detail.isascii() and detail.isdigit() and int(detail) >= 1):
        raise InputError(
            f"architecture {text!r}: the width {detail!r} is not 1 or more", f"write it as {name}:{default}"
        )
    return Architecture(name, int(detail))


def known_architectures() -> list[str]:
    """Return every form that ``--arch`` takes, for messages and help."""
    own = [name if width is None else f"{name}[:WIDTH]" for name, width in DEFAULT_WIDTHS.items()]
    return [*own, f"{TORCHVISION}:NAME"]
