"""DivideMix: two networks tell each other whose labels to trust, and treat the rest as if it had none."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.params import param
from prune_cli.methods.training.data.inputs import TrainingSet
from prune_cli.methods.training.loop.contract import Forward, Learner, StepSamples
from prune_cli.methods.training.recipes.job import TrainedModel, TrainingJob
from prune_cli.methods.training.recipes.relabeling import RelabelParams, mixing, relabeled
from prune_cli.methods.training.recipes.sgd import run_recipe

if TYPE_CHECKING:
    import torch
    from torch import Tensor

WARMUP = 10
"""Passes of plain cross-entropy where the parameter says nothing."""

_RAMP = 16  # passes after the warm-up in which the weight of the guesses rises


@dataclass(frozen=True)
class DivideMixParams(RelabelParams):
    """Parameters of ``dividemix``."""

    warmup: int | None = param(
        None, "passes of plain cross-entropy first (30 for 100 classes); none: 10, or 0 if both networks begin trained", low=0
    )
    threshold: float = param(0.5, "a label is trusted where the mixture holds it clean by more", low=0.0, high=1.0)
    lambda_u: float = param(1.0, "weight of the guessed samples' squared error", low=0.0)
    temperature: float = param(0.5, "what guesses are sharpened with", low=0.01)
    mixup: float = param(4.0, "alpha of the Beta distribution two samples are mixed by", low=0.0)


def clean_probability(losses_m: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    """Return how likely each sample belongs to the part of smaller losses, of two Gaussians fitted to all, whatever their order.

    Args:
        losses_m: (M,) finite; scaled to 0 to 1 first.
    Returns:
        (M,) 0 to 1; 1 where all losses are equal.
    Source:
        Arazo et al. 2019; Li, Socher, Hoi, ICLR 2020, by scikit-learn's GaussianMixture.
    Example:
        >>> clean_probability(np.array([0.1, 0.11, 0.12, 0.1, 2.0, 2.1])).round(2).tolist()
        [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]
    """
    from sklearn.mixture import GaussianMixture

    low, high = losses_m.min(), losses_m.max()
    if high <= low:
        return np.ones(len(losses_m))
    scaled = ((losses_m - low) / (high - low))[:, None]
    mixture = GaussianMixture(n_components=2, max_iter=100, tol=1e-3, reg_covar=5e-4, random_state=seed)
    mixture.fit(np.sort(scaled, axis=0))
    found: NDArray[np.float64] = mixture.predict_proba(scaled)[:, int(mixture.means_.ravel().argmin())]
    return found


def sharpen(probs_bc: Tensor, temperature: float) -> Tensor:
    """Return ``p^(1/T)``, scaled to sum 1."""
    powers = probs_bc ** (1 / temperature)
    return powers / powers.sum(dim=1, keepdim=True)


def mixed_losses(logits_bc: Tensor, targets_bc: Tensor, trusted_b: Tensor, guess_weight: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the cross-entropy of the trusted, the weighted squared error of the guessed, and the penalty on the mean prediction.

    Args:
        logits_bc: (B, C) of mixed samples.
        targets_bc: (B, C) distributions, mixed alike.
        trusted_b: (B,) bool: which have a label that is trusted.
    """
    probs_bc, zero = logits_bc.softmax(1), logits_bc.sum() * 0
    cross_entropy_b = -(targets_bc * logits_bc.log_softmax(1)).sum(1)
    squared_b = (probs_bc - targets_bc).square().mean(1)
    labeled = cross_entropy_b[trusted_b].mean() if bool(trusted_b.any()) else zero
    guessed = guess_weight * squared_b[~trusted_b].mean() if not bool(trusted_b.all()) else zero
    n_classes = logits_bc.shape[1]
    penalty = -(n_classes * probs_bc.mean(0).clamp_min(1e-8)).log().mean()
    return labeled, guessed, penalty


class DivideMix(Learner):
    """Two networks, and how likely each holds every label clean."""

    n_networks = 2

    def __init__(self, data: TrainingSet, params: DivideMixParams, device: torch.device, seed: int) -> None:
        import torch

        self._labels_m = torch.from_numpy(np.ascontiguousarray(data.labels_m))
        self._params, self._seed, self._warmup = params, seed, WARMUP if params.warmup is None else params.warmup
        self.clean_km = torch.ones((2, len(data)), device=device)

    def begin_pass(self, number: int, look: Callable[[int], Tensor]) -> None:
        """After the warm-up, split the samples by each network's losses."""
        if number >= self._warmup:
            self.split([look(k) for k in range(2)])

    def split(self, logits: Sequence[Tensor]) -> None:
        """Fit a mixture to each network's losses."""
        import torch
        import torch.nn.functional as F

        for k, logits_mc in enumerate(logits):
            losses_m = F.cross_entropy(logits_mc.double().cpu(), self._labels_m, reduction="none").numpy()
            self.clean_km[k] = torch.from_numpy(clean_probability(losses_m, self._seed)).to(self.clean_km)

    def losses(self, turn: int, forward: Forward, samples: StepSamples) -> tuple[Tensor, Tensor]:
        """Return the logits of (mixed) samples and one loss for all: plain cross-entropy first, then MixMatch."""
        import torch
        import torch.nn.functional as F

        if samples.epoch < self._warmup:
            logits_bc = forward(turn, samples.views[0])
            return logits_bc, F.cross_entropy(logits_bc, samples.labels_b, reduction="none")
        clean_b = self.clean_km[1 - turn, samples.positions_b]  # the other network's word
        trusted_b = clean_b > self._params.threshold
        own_bc, both_bc = self._guesses(turn, forward, samples.views)
        given_bc = F.one_hot(samples.labels_b, own_bc.shape[1]).to(own_bc.dtype)
        refined_bc = clean_b[:, None] * given_bc + (1 - clean_b[:, None]) * own_bc
        target_bc = sharpen(torch.where(trusted_b[:, None], refined_bc, both_bc), self._params.temperature)
        views, targets = torch.cat(samples.views), target_bc.repeat(len(samples.views), 1)
        share, partner = mixing(self._seed, samples.step, turn, len(views), self._params.mixup, views.device)
        logits = forward(turn, share * views + (1 - share) * views[partner])
        passed = (samples.epoch - self._warmup + 1) / _RAMP
        labeled, guessed, penalty = mixed_losses(
            logits,
            share * targets + (1 - share) * targets[partner],
            trusted_b.repeat(len(samples.views)),
            self._params.lambda_u * min(1.0, passed),
        )
        return logits[: len(trusted_b)], (labeled + guessed + penalty).expand(len(trusted_b))

    def _guesses(self, turn: int, forward: Forward, views: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return what a network, and what both, predict on average over the views."""
        import torch

        seen = torch.cat(list(views))
        own, other = (torch.stack(forward(k, seen, guess=True).softmax(1).chunk(len(views))).mean(0) for k in (turn, 1 - turn))
        return own, (own + other) / 2

    def arrays(self) -> Mapping[str, Tensor]:
        return {"clean": self.clean_km}


def train_dividemix(job: TrainingJob, params: DivideMixParams) -> TrainedModel:
    r"""Return one of two networks trained by DivideMix on labels that may be wrong, and the labels both would give.

    After a warm-up each pass begins with a mixture of two Gaussians over each network's losses: samples of the smaller ones keep a label
    the OTHER network trusts, refined by its own predictions; for the rest both networks guess. Guesses are sharpened, samples mixed.

    Args:
        job: what is trained on what, see `TrainingJob`; the record is the first network's, on mixed samples.
    Returns:
        The first network, and relabels by the mean of both: ``p_clean`` is the mean of the mixtures'.
    Raises:
        InputError, NumericalError, InterruptedRun: as `run_recipe`.
    Cost:
        Two networks, each on two views, with two guesses for each view: about 7 times standard training, and a look at all
        samples with both before every pass.
    Source:
        Li, Socher, Hoi, ICLR 2020, arXiv:2002.07394 (CIFAR: lambda_u to 25 by noise, T .5, alpha 4). Deviations: one pass over all
        samples, where theirs is as long as the trusted part; guesses in eval mode; no confidence penalty in the warm-up.
    """
    if params.warmup is None and len(job.initial) == DivideMix.n_networks:
        params = dataclasses.replace(params, warmup=0)
    learned = run_recipe(
        "dividemix",
        job,
        params,
        lambda device, networks: DivideMix(job.data, params, device, job.runtime.seed),
        views=(params.augment, params.augment),
        n_networks=DivideMix.n_networks,
    )
    probs = [learned.probs(network, k) for k, network in enumerate(learned.networks)]
    labels_m = job.data.labels_m
    of_label = [p[np.arange(len(labels_m)), labels_m] for p in probs]
    clean = np.mean([clean_probability(-np.log(np.maximum(p, 1e-300)), job.runtime.seed) for p in of_label], axis=0)
    return relabeled(learned, job, params, (probs[0] + probs[1]) / 2, p_clean_m=clean)
