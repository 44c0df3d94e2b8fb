"""Predictions of a saved network."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.errors import InputError, NumericalError
from prune_cli.core.progress import Progress, silent
from prune_cli.core.rng import generator
from prune_cli.core.runtime import Runtime
from prune_cli.methods.devices import resolve_device
from prune_cli.methods.training.data.augment import Augmentation, augment
from prune_cli.methods.training.data.inputs import Inputs, IntArray, check_inputs, input_batches, input_preparation
from prune_cli.methods.training.networks.forward import Pieces, embed_and_classify, in_pieces, joined

if TYPE_CHECKING:
    from torch import Tensor

    from prune_cli.methods.training.networks.network import Network

BATCH_SIZE = 256
"""Samples a step where ``--batch-size`` says nothing."""


@dataclass(frozen=True)
class Look:
    """How a network looks at N samples, and what is wanted beside the logits.

    Args:
        embeddings: whether the penultimate embeddings are.
        gradient_norms: network, inputs and labels of a batch -> norms, (B,); None for no gradients.
        labels_n: (N,) int64, 0 to C - 1, for the gradients.
        augmentation: what happens to each picture first; None for nothing.
        draws_nk: (N, K) float32 in [0, 1), K as the augmentation wants them; see `augmentation_draws`.
        places_n: (N,) int64, ascending: where each input stands in its data set. A batch is of so many places that follow one another,
            so that a part of a data set goes through the network as it does within all of it. None: 0 to N - 1.
    """

    embeddings: bool = False
    gradient_norms: Callable[[Network, Tensor, Tensor], Tensor] | None = None
    labels_n: IntArray | None = None
    augmentation: Augmentation | None = None
    draws_nk: NDArray[np.float32] | None = None
    places_n: IntArray | None = None


@dataclass(frozen=True)
class Prediction:
    """What a network says of N samples.

    Args:
        logits_nc: (N, C) float32.
        embeddings_nd: (N, D) float32, the input of the last linear layer; None if not asked for.
        gradient_norms_n: (N,) float32, see `prune_cli.methods.scores.record.grand`; None if not asked for.
    """

    logits_nc: NDArray[np.float32]
    embeddings_nd: NDArray[np.float32] | None
    gradient_norms_n: NDArray[np.float32] | None = None

    def probs_nc(self) -> NDArray[np.float32]:
        """Return the softmax of the logits, (N, C) float32, computed in float64."""
        shifted = self.logits_nc.astype(np.float64)
        shifted -= shifted.max(axis=1, keepdims=True)
        np.exp(shifted, out=shifted)
        shifted /= shifted.sum(axis=1, keepdims=True)
        return shifted.astype(np.float32)


def augmentation_draws(augmentation: Augmentation, ranks_n: IntArray, n_ranks: int, seed: int) -> NDArray[np.float32]:
    """Return the draws of N samples for one look at augmented pictures, by rank: the order of the rows changes nothing.

    Args:
        ranks_n: (N,) int64, the place of each sample in the order of the ids, 0 to ``n_ranks`` - 1.
        n_ranks: samples of the whole data set.
    Returns:
        (N, K) float32 in [0, 1).
    """
    draws = generator(seed, "features").random((n_ranks, augmentation.n_draws), dtype=np.float32)
    return draws[ranks_n]


def rebuild(tensors: Mapping[str, NDArray[np.float32]], model: Mapping[str, Any]) -> Network:
    """Return a trained network, on the CPU, as small as it has become.

    Args:
        tensors, model: as `prune_cli.methods.training.recipes.job.TrainedModel` has them.
    Raises:
        InputError: weights that do not fit the architecture.
    """
    from prune_cli.methods.training.networks.building import build_network
    from prune_cli.methods.training.networks.network import load_tensors

    input_shape = tuple(int(size) for size in model["input_size"])
    network = build_network(model["architecture"], input_shape, int(model["n_classes"]), seed=0)
    if "structure" in model:
        from prune_cli.methods.training.networks.surgery import take_shape

        names = [*dict(network.named_parameters()), *dict(network.named_buffers())]
        shapes = {n: tensors[p].shape for n in names if (p := network.published_name(n)) in tensors}
        take_shape(network, model["structure"]["removed"], shapes)
    load_tensors(network, tensors)
    return network


def ready_network(tensors: Mapping[str, NDArray[np.float32]], model: Mapping[str, Any], device_name: str) -> Network:
    """Return a trained network where and as `predict` runs it.

    Args:
        device_name: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """
    import torch

    network = rebuild(tensors, model)
    memory_format = torch.channels_last if network.is_convolutional else torch.contiguous_format
    device = resolve_device(device_name)
    ready: Network = network.to(device=device, memory_format=memory_format).eval()  # type: ignore[call-overload]
    return ready


def predict(
    tensors: Mapping[str, NDArray[np.float32]],
    model: Mapping[str, Any],
    inputs: Inputs,
    *,
    runtime: Runtime,
    look: Look = Look(),
    network: Network | None = None,
    progress: Progress = silent,
    note: Callable[[str], None] = lambda text: None,
) -> Prediction:
    """Return the logits of a trained network, and what else is wanted of it.

    Args:
        tensors, model: as `prune_cli.methods.training.recipes.job.TrainedModel` has them.
        inputs: pictures or vectors of the model's input size, in memory or streamed.
        runtime: device, batch size (default 256), decoding processes, and precision: ``float32``, which ``auto`` is
            here so that scores are not rounded, or ``bfloat16``.
        look: what is wanted; by default the logits of un-augmented inputs alone.
        network: what `ready_network` returned for these tensors; None: it is made.
        note: told once where batches go through the device in pieces, for want of memory.
    Returns:
        See `Prediction`; rows in the order of the inputs.
    Raises:
        InputError: inputs of another size, weights that do not fit the architecture, an unknown precision.
        NumericalError: a logit is not finite.
    Cost:
        One forward pass a sample.
    """
    _check_asked(model, inputs, runtime)
    network = ready_network(tensors, model, runtime.device) if network is None else network
    n = inputs.shape[0]
    logits_nc = np.empty((n, int(model["n_classes"])), dtype=np.float32)
    embeddings_nd = np.empty((n, network.head.in_features), dtype=np.float32) if look.embeddings else None
    norms_n = np.empty(n, dtype=np.float32) if look.gradient_norms is not None else None
    with contextlib.closing(_looked_at(network, model, inputs, runtime, look, note)) as found:
        for here, logits_bc, features_bd, norms_b in found:
            logits_nc[here] = logits_bc.cpu().numpy()
            if embeddings_nd is not None:
                embeddings_nd[here] = features_bd.cpu().numpy()
            if norms_n is not None and norms_b is not None:
                norms_n[here] = norms_b.cpu().numpy()
            progress("predict", here.stop, n)
    if not np.isfinite(logits_nc).all():
        row = int(np.flatnonzero(~np.isfinite(logits_nc).all(axis=1))[0])
        raise NumericalError(f"the prediction of row {row} is not finite", "check the input and the model")
    return Prediction(logits_nc, embeddings_nd, norms_n)


def _check_asked(model: Mapping[str, Any], inputs: Inputs, runtime: Runtime) -> None:
    check_inputs(inputs)
    input_shape = tuple(model["input_size"])
    if tuple(inputs.shape[1:]) != input_shape:
        raise InputError(
            f"the inputs are {' x '.join(map(str, inputs.shape[1:]))}, and the model was trained on {' x '.join(map(str, input_shape))}",
            "resize the pictures to the model's input size",
        )
    if runtime.precision not in {"auto", "float32", "bfloat16"}:
        raise InputError(f"prediction does not run in precision {runtime.precision!r}", "use float32 or bfloat16")


def _looked_at(
    network: Network, model: Mapping[str, Any], inputs: Inputs, runtime: Runtime, look: Look, note: Callable[[str], None]
) -> Generator[tuple[slice, Tensor, Tensor, Tensor | None], None, None]:
    """Yield of each batch which rows it has, logits, embeddings, and norms where they are wanted."""
    import torch

    device, dtype = resolve_device(runtime.device), torch.bfloat16 if runtime.precision == "bfloat16" else torch.float32
    mean, std = (np.asarray(model["normalization"][key], dtype=np.float64) for key in ("mean", "std"))
    prepare = input_preparation(tuple(inputs.shape[1:]), mean, std, device)
    n, pieces = inputs.shape[0], Pieces(note)
    labels_n = np.zeros(n, dtype=np.int64) if look.labels_n is None else look.labels_n
    places_n = np.arange(n, dtype=np.int64) if look.places_n is None else look.places_n
    blocks = _batches(places_n, runtime.batch_size or BATCH_SIZE)

    def work(inputs_b: Tensor, labels_b: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        with torch.inference_mode():
            features_bd, logits_bc = embed_and_classify(network, inputs_b, dtype)
        norms_b = None if look.gradient_norms is None else look.gradient_norms(network, inputs_b, labels_b)
        return logits_bc, features_bd, norms_b

    with contextlib.closing(input_batches(inputs, blocks, device, runtime.worker_count())) as feed:
        for block, raw in zip(blocks, feed, strict=True):
            here = slice(int(block[0]), int(block[-1]) + 1)
            labels_b = torch.from_numpy(np.ascontiguousarray(labels_n[here])).to(device)
            if look.augmentation is not None and look.draws_nk is not None:
                draws_bk = torch.from_numpy(np.ascontiguousarray(look.draws_nk[here])).to(device)
                raw = augment(raw, draws_bk, look.augmentation)
            logits, features, norms = zip(*in_pieces(prepare(raw), labels_b, pieces, work), strict=True)
            yield here, joined(logits, 0), joined(features, 0), joined(norms, 0) if look.gradient_norms else None


def _batches(places_n: IntArray, size: int) -> list[IntArray]:
    """Return the numbers of the inputs of each batch, those of ``size`` places that follow one another."""
    if not len(places_n):
        return []
    starts = np.flatnonzero(np.diff(places_n // size, prepend=-1))
    return np.split(np.arange(len(places_n), dtype=np.int64), starts[1:])
