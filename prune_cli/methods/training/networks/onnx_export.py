"""A trained network as an ONNX file: what other runtimes read."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.errors import UnavailableError


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
