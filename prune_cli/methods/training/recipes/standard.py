"""Standard training: cross-entropy with SGD, on any selection of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prune_cli.core.params import param
from prune_cli.methods.training.loop.contract import Forward, Learner, StepSamples
from prune_cli.methods.training.recipes.job import TrainedModel, TrainingJob
from prune_cli.methods.training.recipes.sgd import SgdParams, run_recipe

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class StandardParams(SgdParams):
    """Parameters of standard training."""

    label_smoothing: float = param(0.0, "share of each label spread over all classes", low=0.0, high=0.999)


class CrossEntropy(Learner):
    """Cross-entropy with the given labels.

    Args:
        label_smoothing: share of each label spread over all classes.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self._label_smoothing = label_smoothing

    def losses(self, turn: int, forward: Forward, samples: StepSamples) -> tuple[Tensor, Tensor]:
        """Return the logits and the cross-entropy of each sample."""
        import torch.nn.functional as F

        logits_bc = forward(turn, samples.views[0])
        return logits_bc, F.cross_entropy(logits_bc, samples.labels_b, reduction="none", label_smoothing=self._label_smoothing)


def train_standard(job: TrainingJob, params: StandardParams) -> TrainedModel:
    """Return a network trained by cross-entropy and SGD on the selected samples.

    The order of the samples and their augmentation are drawn over the whole data set, so that trainings on two
    selections are paired. Inputs are normalised by the statistics of what is trained on.

    Args:
        job: what is trained on what, see `TrainingJob`.
    Returns:
        The network after the last step, never "the best" one. The same arguments, device and number of threads give
        the same bytes, with or without interruptions.
    Raises:
        InputError, NumericalError, InterruptedRun: as `run_recipe`.
    Cost:
        Three forward passes a presentation; the set itself as uint8 on the device unless it is streamed.
    Source:
        He 2016; label smoothing, Szegedy 2016; cosine decay, Loshchilov 2017. Deviations: learning rates are ours,
        measured on short budgets; the batches of one pass are of equal size.
    """
    from prune_cli.methods.training.networks.network import export_tensors

    learned = run_recipe("standard", job, params, lambda device, networks: CrossEntropy(params.label_smoothing))
    return TrainedModel(export_tensors(learned.networks[0]), learned.model)
