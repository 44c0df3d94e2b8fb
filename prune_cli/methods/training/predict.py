"""Predictions of a saved network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.errors import InputError, NumericalError
from prune_cli.core.progress import Progress, silent
from prune_cli.core.runtime import Runtime
from prune_cli.methods.devices import resolve_device
from prune_cli.methods.training.inputs import Inputs, check_inputs, input_batches

BATCH_SIZE = 256
"""Samples a step where ``--batch-size`` says nothing."""


@dataclass(frozen=True)
class Prediction:
    """What a network says of N samples.

    Args:
        logits_nc: (N, C) float32.
        embeddings_nd: (N, D) float32, the input of the last linear layer; None if not asked for.
    """

    logits_nc: NDArray[np.float32]
    embeddings_nd: NDArray[np.float32] | None

    def probs_nc(self) -> NDArray[np.float32]:
        """Return the softmax of the logits, (N, C) float32, computed in float64."""
        shifted = self.logits_nc.astype(np.float64)
        shifted -= shifted.max(axis=1, keepdims=True)
        np.exp(shifted, out=shifted)
        shifted /= shifted.sum(axis=1, keepdims=True)
        return shifted.astype(np.float32)


def predict(
    tensors: Mapping[str, NDArray[np.float32]],
    model: Mapping[str, Any],
    inputs: Inputs,
    *,
    runtime: Runtime,
    progress: Progress = silent,
    embeddings: bool = False,
) -> Prediction:
    """Return the logits, and the embeddings if wanted, of a trained network on un-augmented inputs.

    Args:
        tensors, model: as `prune_cli.methods.training.standard.TrainedModel` has them.
        inputs: pictures or vectors of the model's input size, in memory or streamed.
        runtime: device, batch size (default 256), decoding processes, and precision: ``float32``, which ``auto`` is
            here so that scores are not rounded, or ``bfloat16``.
        progress: told after each batch.
        embeddings: whether to return the penultimate embeddings as well.
    Returns:
        See `Prediction`; rows in the order of the inputs.
    Raises:
        InputError: inputs of another size, weights that do not fit the architecture, an unknown precision.
        NumericalError: a logit is not finite.
    Cost:
        One forward pass a sample.
    """
    import torch

    from prune_cli.methods.training.loop import input_preparation
    from prune_cli.methods.training.networks import build_network, load_tensors

    check_inputs(inputs)
    input_shape = tuple(int(size) for size in model["input_size"])
    if tuple(inputs.shape[1:]) != input_shape:
        raise InputError(
            f"the inputs are {' x '.join(map(str, inputs.shape[1:]))}, and the model was trained on"
            f" {' x '.join(map(str, input_shape))}",
            "resize the pictures to the model's input size",
        )
    if runtime.precision not in {"auto", "float32", "bfloat16"}:
        raise InputError(f"prediction does not run in precision {runtime.precision!r}", "use float32 or bfloat16")
    device = resolve_device(runtime.device)
    network = build_network(model["architecture"], input_shape, int(model["n_classes"]), seed=0)
    load_tensors(network, tensors)
    memory_format = torch.channels_last if network.is_convolutional else torch.contiguous_format
    network = network.to(device=device, memory_format=memory_format).eval()  # type: ignore[call-overload]
    n, size = inputs.shape[0], runtime.batch_size or BATCH_SIZE
    mean, std = (np.asarray(model["normalization"][key], dtype=np.float64) for key in ("mean", "std"))
    prepare = input_preparation(input_shape, mean, std, device)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=runtime.precision == "bfloat16")
    logits_nc = np.empty((n, int(model["n_classes"])), dtype=np.float32)
    embeddings_nd = np.empty((n, network.head.in_features), dtype=np.float32) if embeddings else None
    blocks = [np.arange(start, min(start + size, n), dtype=np.int64) for start in range(0, n, size)]
    with torch.inference_mode():
        for block, raw in zip(blocks, input_batches(inputs, blocks, device, runtime.worker_count()), strict=True):
            with autocast:
                features_bd = network.features(prepare(raw))
            features_bd = features_bd.float()
            logits_nc[block[0] : block[-1] + 1] = network.head(features_bd).cpu().numpy()
            if embeddings_nd is not None:
                embeddings_nd[block[0] : block[-1] + 1] = features_bd.cpu().numpy()
            progress("predict", int(block[-1]) + 1, n)
    if not np.isfinite(logits_nc).all():
        row = int(np.flatnonzero(~np.isfinite(logits_nc).all(axis=1))[0])
        raise NumericalError(f"the prediction of row {row} is not finite", "check the input and the model")
    return Prediction(logits_nc, embeddings_nd)
