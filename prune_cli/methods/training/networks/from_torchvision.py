"""Networks of torchvision's.

This module imports torch, so it is imported inside functions only.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from prune_cli.core.errors import InputError
from prune_cli.methods.training.networks.network import Network, zero_input


class TorchvisionNetwork(Network):
    """A torchvision classifier without its last linear layer, which becomes the head; grey becomes three channels."""

    draws_noise = True

    def __init__(self, body: nn.Module, head_name: str) -> None:
        super().__init__()
        parent, _, attribute = head_name.rpartition(".")
        self.head = cast(nn.Linear, body.get_submodule(head_name))
        setattr(body.get_submodule(parent), attribute, nn.Identity())
        self.body = body
        self.head_name = head_name

    def features(self, inputs: Tensor) -> Tensor:
        x = inputs.expand(-1, 3, -1, -1) if inputs.shape[1] == 1 else inputs
        return cast(Tensor, self.body(x))

    def published_name(self, name: str) -> str:
        part, _, rest = name.partition(".")
        return f"{self.head_name}.{rest}" if part == "head" else rest


def build_torchvision_network(name: str, input_shape: tuple[int, ...], n_classes: int) -> TorchvisionNetwork:
    """Return a classifier of torchvision's by its name there, its weights drawn from torch's own random state.

    Raises:
        InputError: no such classifier, or one that does not end in a linear layer or does not take pictures of that size.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise InputError(
            f"torchvision has no classifier '{name}'",
            f"use one of: {', '.join(known)} (models for detection, segmentation and video are none)",
        )
    options: dict[str, Any] = {"weights": None, "num_classes": n_classes}
    if name in {"googlenet", "inception_v3"}:
        options |= {"aux_logits": False, "init_weights": True}
    if name.startswith("vit_"):
        options |= {"image_size": input_shape[0]}
    try:
        body = models.get_model(name, **options)
        heads = [n for n, m in body.named_modules() if isinstance(m, nn.Linear) and m.out_features == n_classes]
        if not heads:
            raise InputError(f"torchvision:{name} does not end in a linear layer", "use torchvision:resnet50 or another")
        network = TorchvisionNetwork(body, heads[-1])
        with torch.no_grad():
            network.eval()(zero_input(input_shape))
    except (ValueError, RuntimeError, AssertionError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"architecture 'torchvision:{name}' does not take pictures of {input_shape[0]} x {input_shape[1]}: {reason}",
            "resize the pictures to the size it was made for (224 x 224 fits most), or use resnet9 or resnet18",
        ) from error
    network.train()
    return network
