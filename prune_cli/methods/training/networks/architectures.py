"""Names of networks: what ``--arch NAME[:WIDTH]`` may be, told without loading anything heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prune_cli.core.errors import InputError

TORCHVISION = "torchvision"

SMALL_SIDE = 64
"""Longest side of pictures that the networks for small images are made for."""


@dataclass(frozen=True)
class KnownNetwork:
    """What is known of a network by its name.

    Args:
        width: published width of its first layer, with which every other layer scales; None where there is no such choice.
        rate: learning rate where no parameter says one, for batches of about 128.
    """

    width: int | None
    rate: float
    takes_vectors: bool = False


NETWORKS: Mapping[str, KnownNetwork] = {
    "linear": KnownNetwork(None, 0.05, takes_vectors=True),
    "mlp": KnownNetwork(512, 0.05, takes_vectors=True),
    "lenet5": KnownNetwork(6, 0.05),
    "resnet9": KnownNetwork(64, 0.4),
    "resnet18": KnownNetwork(64, 0.1),
    "resnet20": KnownNetwork(16, 0.1),
    "resnet56": KnownNetwork(16, 0.1),
    "preactresnet18": KnownNetwork(64, 0.05),
    "vgg16": KnownNetwork(64, 0.05),
}
"""Our own networks by name."""

_TORCHVISIONS = KnownNetwork(None, 0.05)


@dataclass(frozen=True)
class Architecture:
    """A network by name: ``linear``, ``resnet9`` with a width, or ``torchvision`` with a model's name.

    Args:
        name: a key of `NETWORKS`, or ``torchvision``.
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

    @property
    def known(self) -> KnownNetwork:
        """Return what is known of the network."""
        return NETWORKS.get(self.name, _TORCHVISIONS)


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
    if name not in NETWORKS:
        raise InputError(f"unknown architecture {text!r}", f"use one of: {', '.join(known_architectures())}")
    default = NETWORKS[name].width
    if not colon:
        return Architecture(name, default)
    if default is None:
        raise InputError(f"architecture {text!r} gives a width, and {name} has none", f"write it as {name}")
    if not (detail.isascii() and detail.isdigit() and int(detail) >= 1):
        raise InputError(f"architecture {text!r}: the width {detail!r} is not 1 or more", f"write it as {name}:{default}")
    return Architecture(name, int(detail))


def known_architectures() -> list[str]:
    """Return every form that ``--arch`` takes, for messages and help."""
    own = [name if known.width is None else f"{name}[:WIDTH]" for name, known in NETWORKS.items()]
    return [*own, f"{TORCHVISION}:NAME"]


def default_architecture(input_shape: tuple[int, ...]) -> str:
    """Return the network that is trained where none is named: by what the inputs are.

    >>> default_architecture((28, 28, 1)), default_architecture((224, 224, 3)), default_architecture((512,))
    ('resnet9:16', 'torchvision:resnet18', 'mlp')
    """
    if len(input_shape) == 1:
        return "mlp"
    return "resnet9:16" if max(input_shape[:2]) <= SMALL_SIDE else "torchvision:resnet18"
