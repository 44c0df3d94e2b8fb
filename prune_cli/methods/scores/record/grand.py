"""GraNd: the gradient norms of single samples, over all parameters or over the last layer in closed form, and the score of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from prune_cli.core.measures import GRADIENT_NORM
from prune_cli.core.params import param
from prune_cli.methods.scores.record.needs import EarlyParams, GradientLook, RecordNeeds, Variant
from prune_cli.methods.scores.record.records import FloatArray, Record, early_look

if TYPE_CHECKING:
    from torch import Tensor

    from prune_cli.methods.training.networks.network import Network

CHUNK_BYTES = {"cpu": 2**27, "cuda": 2**31}
"""Memory that the gradients of the samples under way may take; on a CPU more than fits its caches is slower."""


@dataclass(frozen=True)
class GrandParams(EarlyParams):
    """Parameters of `grand_scores`."""

    variant: Literal["full", "last_layer"] = param("full", "over all parameters, or the last layer in closed form")

    def needs(self, epochs: int) -> RecordNeeds:
        """Return a training until its early look, and the norms of the gradients there."""
        look = self.look("grand", epochs)
        return RecordNeeds("eval", look, looks=(look,), gradients=GradientLook(look, self.variant))


def grand_scores(record: Record, params: GrandParams = GrandParams()) -> dict[str, FloatArray]:
    """Return the norm of the gradient of each sample's loss, early in training.

    Args:
        record: needs ``gradient_norm`` in eval mode after ``params.epoch``; see `gradient_norms`.
        params: see `GrandParams`; ``variant`` says what was recorded.
    Returns:
        ``grand`` (N,) float64, 0 or more; higher is harder.
    Raises:
        InputError: the record has no gradient norms after that pass.
    Cost:
        N; the norms themselves cost three forward passes a sample, as B single ones.
    Source:
        Paul, Ganguli, Dziugaite, NeurIPS 2021, arXiv:2107.07075. Deviation: in eval mode, as the norm of a single
        sample, where the expectation over runs is ``-p runs=R``.
    """
    return {"grand": early_look(record, GRADIENT_NORM, params.epoch, "grand")}


def gradients_of(variant: Variant) -> Callable[..., Any]:
    """Return what computes the norms of a variant."""
    return gradient_norms if variant == "full" else last_layer_gradient_norms


def gradient_norms(network: Network, inputs_b: Tensor, labels_b: Tensor, *, chunk_bytes: int | None = None) -> Tensor:
    """Return the norm of each sample's gradient of the cross-entropy, over all parameters of the network.

    The gradients of as many samples as fit into ``chunk_bytes`` are taken at once (`torch.func`: vmap of grad) and
    only their norms leave the chunk. The network stands in eval mode, so that no sample sees another.

    Args:
        network: in eval mode, on the device of the inputs.
        inputs_b: (B, C, H, W) or (B, D) float32, normalised.
        labels_b: (B,) int64.
        chunk_bytes: memory for the gradients of a chunk, which holds one sample at least; None for `CHUNK_BYTES`.
    Returns:
        (B,) float32, 0 or more.
    Cost:
        Three forward passes a sample, run as B small convolutions; chunk x parameters numbers.
    """
    import torch
    import torch.nn.functional as F
    from torch.func import functional_call, grad, vmap

    parameters = {name: p.detach() for name, p in network.named_parameters()}
    buffers = {name: b.detach() for name, b in network.named_buffers()}
    n_parameters = sum(p.numel() for p in parameters.values())

    def loss(values: dict[str, Tensor], input_: Tensor, label: Tensor) -> Tensor:
        logits_1c = functional_call(network, (values, buffers), (input_[None],))
        return F.cross_entropy(logits_1c.float(), label[None])

    def norm(input_: Tensor, label: Tensor) -> Tensor:
        gradients = grad(loss)(parameters, input_, label)
        return torch.stack([g.float().square().sum() for g in gradients.values()]).sum().sqrt()

    chunk_bytes = CHUNK_BYTES[inputs_b.device.type] if chunk_bytes is None else chunk_bytes
    chunk = max(1, min(len(labels_b), chunk_bytes // (4 * n_parameters)))
    norms_b: Tensor = vmap(norm, chunk_size=chunk, randomness="same")(inputs_b, labels_b)
    return norms_b.detach()


def last_layer_gradient_norms(network: Network, inputs_b: Tensor, labels_b: Tensor) -> Tensor:
    r"""Return the norm of each sample's gradient of the cross-entropy, over the last linear layer alone.

    With the embedding f and the error e = softmax(z) - onehot(y) the gradient is ``e f'`` for the weights and ``e`` for
    the bias, so its norm is ``|e| sqrt(|f|^2 + 1)``.

    Args, Returns: as `gradient_norms`.
    Cost:
        One forward pass a sample.
    """
    import torch
    import torch.nn.functional as F

    with torch.no_grad():
        features_bd = network.features(inputs_b).float()
        probs_bc = network.head(features_bd).softmax(1)
        error_b = (probs_bc - F.one_hot(labels_b, probs_bc.shape[1])).norm(dim=1)
        with_bias = 1.0 if network.head.bias is not None else 0.0
        norms_b: Tensor = error_b * (features_bd.square().sum(1) + with_bias).sqrt()
    return norms_b
