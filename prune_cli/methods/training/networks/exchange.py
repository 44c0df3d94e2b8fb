"""Networks as others have them: weights read without running anything that a file may hold, and ONNX files written."""

from __future__ import annotations

import importlib.util
import io
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.errors import InputError, UnavailableError
from prune_cli.methods.training.networks.architectures import TORCHVISION, parse_architecture

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What torchvision's weights were trained with, pixels from 0 to 1."""


def tensors_of_torch_file(raw: bytes, name: str) -> dict[str, NDArray[np.float32]]:
    """Return the tensors of a file that ``torch.save`` wrote of a state dict, by `torch.load` with ``weights_only``.

    Args:
        name: of the file, for messages.
    Returns:
        Arrays by name, float32; a wrapper (``state_dict``, ``model``) and a ``module.`` prefix are taken off.
    Raises:
        InputError: the file wants to run code when it is read (a pickle), is damaged, or holds no tensors.
    """
    import pickle
    import warnings

    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            found = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{name} is a pickle that holds more than tensors: reading it could run any code, so it is refused",
            "save the weights alone: safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')",
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise InputError(f"{name} is not a file of torch weights: {str(error).splitlines()[0]}", "check it") from error
    for wrapper in ("state_dict", "model", "model_state_dict"):
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    tensors = {k: v for k, v in found.items() if isinstance(v, torch.Tensor)} if isinstance(found, dict) else {}
    if not tensors:
        raise InputError(f"{name} holds no weights by name", "save a state dict: model.state_dict()")
    return {str(k).removeprefix("module."): v.float().numpy() for k, v in tensors.items()}


def pretrained_model(
    architecture: str, tensors: dict[str, NDArray[Any]], input_shape: tuple[int, ...]
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the weights and what `prune_cli.methods.training.networks.predict.predict` must know of a torchvision network.

    Args:
        architecture: ``torchvision:NAME``.
        tensors: under torchvision's names.
        input_shape: (H, W, C) of the pictures.
    Raises:
        InputError: not a network of torchvision's, or the weights have no last layer.
    """
    from prune_cli.methods.training.networks.building import build_network

    kind = parse_architecture(architecture)
    if kind.name != TORCHVISION:
        raise InputError(
            f"--weights goes with --model torchvision:NAME, not with '{architecture}'",
            "name a run folder with --model, or a network of torchvision",
        )
    network = build_network(architecture, input_shape, 1000, seed=0)
    head = network.published_name("head.weight")
    if head not in tensors:
        raise InputError(
            f"the weights have no '{head}', which {architecture} ends in; they have {', '.join(list(tensors)[-3:])}",
            "take the weights of that network",
        )
    own = network.published_tensors().keys()
    model = {
        "architecture": architecture,
        "input_size": list(input_shape),
        "n_classes": int(tensors[head].shape[0]),
        "normalization": {
            name: list(values) if input_shape[2] == 3 else [float(np.mean(values))]
            for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD))
        },
    }
    auxiliary = {n for n in tensors if n not in own and (n.endswith("num_batches_tracked") or "aux" in n.lower())}
    return {n: t for n, t in tensors.items() if n not in auxiliary}, model


def require() -> None:
    """Raise where the packages that write ONNX are missing.

    Raises:
        UnavailableError: they are.
    """
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise UnavailableError(f"ONNX is written by packages that are not installed: {', '.join(missing)}", "pip install 'prune-cli[onnx]'")


def to_onnx(tensors: Mapping[str, NDArray[np.float32]], model: Mapping[str, Any]) -> bytes:
    """Return a network as an ONNX model, the normalization of its inputs within.

    The input ``inputs`` is (B, C, H, W) float32, pixels from 0 to 1, or (B, D) float32 vectors; the output ``logits`` is (B, classes)
    float32. B is free.

    Args:
        tensors, model: as `prune_cli.methods.training.recipes.job.TrainedModel` has them.
    Raises:
        UnavailableError: the packages that write ONNX are missing.
        InputError: weights that do not fit the architecture.
    """
    require()
    import torch
    from torch import nn

    from prune_cli.methods.training.networks.network import zero_input
    from prune_cli.methods.training.networks.predict import rebuild

    class Normalized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = rebuild(tensors, model).eval()
            mean, std = (torch.tensor(model["normalization"][key], dtype=torch.float32) for key in ("mean", "std"))
            shape = (1, -1, 1, 1) if len(model["input_size"]) == 3 else (1, -1)
            self.register_buffer("mean", mean.view(shape))
            self.register_buffer("scale", (1 / std).view(shape))

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            normal = (inputs - self.mean) * self.scale  # type: ignore[operator]
            logits: torch.Tensor = self.network(normal)
            return logits

    example = zero_input(tuple(model["input_size"])).repeat(2, *[1] * len(model["input_size"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            Normalized().eval(),
            (example,),
            input_names=["inputs"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    serialized: bytes = program.model_proto.SerializeToString()
    return serialized
