"""Scores that the probabilities of one model give: the network as it was last looked at, or early in its training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prune_cli.core.params import param
from prune_cli.methods.scores.record.needs import EarlyParams, RecordNeeds, RecordParams
from prune_cli.methods.scores.record.records import FloatArray, Record, early_look, last_look


@dataclass(frozen=True)
class El2nParams(EarlyParams):
    """Parameters of `el2n_scores`."""

    def needs(self, epochs: int) -> RecordNeeds:
        """Return a training until its early look."""
        look = self.look("el2n", epochs)
        return RecordNeeds("eval", look, looks=(look,))


def el2n_scores(record: Record, params: El2nParams = El2nParams()) -> dict[str, FloatArray]:
    """Return the norm of the error, ``|softmax(z) - onehot(y)|_2``, early in training.

    Args:
        record: needs ``error_norm`` in eval mode after ``params.epoch``; the record of one model has one look only,
            which is taken.
    Returns:
        ``el2n`` (N,) float64, 0 to sqrt(2); higher is harder.
    Raises:
        InputError: the record has no look after that pass.
    Cost:
        N.
    Source:
        Paul, Ganguli, Dziugaite, NeurIPS 2021, arXiv:2107.07075: epoch 20 of 200, mean over ten runs (``-p runs=10``).
    """
    return {"el2n": early_look(record, "error_norm", params.epoch, "el2n")}


@dataclass(frozen=True)
class LastLookParams(RecordParams):
    """Parameters of a score of the network as it is at the end."""

    def needs(self, epochs: int) -> RecordNeeds:
        """Return a whole training, and a look at its end."""
        return RecordNeeds("eval", epochs, at_end=True)


@dataclass(frozen=True)
class LossParams(LastLookParams):
    """Parameters of `loss_scores`: none."""


def loss_scores(record: Record, params: LossParams = LossParams()) -> dict[str, FloatArray]:
    """Return the cross-entropy of the given label, ``-log p_y`` in nats, by the network as it was last looked at.

    Args:
        record: needs ``loss`` in eval mode.
    Returns:
        ``loss`` (N,) float64, 0 or more; higher is harder.
    Raises:
        InputError: the record has no look in eval mode.
    Cost:
        N.
    Source:
        The usual small-loss criterion (Han 2018, arXiv:1804.06872).
    """
    return {"loss": last_look(record, "loss", "loss")}


@dataclass(frozen=True)
class MarginParams(LastLookParams):
    """Parameters of `margin_scores`."""

    of: Literal["label", "top"] = param("label", "label: p_y less the best other; top: the highest less the second")


def margin_scores(record: Record, params: MarginParams = MarginParams()) -> dict[str, FloatArray]:
    """Return the margin of the probabilities, by the network as it was last looked at.

    Args:
        record: needs ``margin_prob`` (or ``top_gap``) in eval mode.
    Returns:
        ``margin`` (N,) float64, -1 to 1, with ``of=top`` 0 to 1; higher is easier.
    Raises:
        InputError: the record has no look in eval mode.
    Cost:
        N.
    Source:
        Scheffer 2001 for ``of=top``; Northcutt 2021 (arXiv:1911.00068) for the label's.
    """
    return {"margin": last_look(record, "margin_prob" if params.of == "label" else "top_gap", "margin")}


@dataclass(frozen=True)
class EntropyParams(LastLookParams):
    """Parameters of `entropy_scores`: none."""


def entropy_scores(record: Record, params: EntropyParams = EntropyParams()) -> dict[str, FloatArray]:
    """Return the entropy of the probabilities in nats, by the network as it was last looked at.

    Args:
        record: needs ``entropy`` in eval mode.
    Returns:
        ``entropy`` (N,) float64, 0 to log C; higher is harder.
    Raises:
        InputError: the record has no look in eval mode.
    Cost:
        N.
    Source:
        Shannon 1948; as a score of samples, Settles 2009.
    """
    return {"entropy": last_look(record, "entropy", "entropy")}


@dataclass(frozen=True)
class ConfidenceParams(LastLookParams):
    """Parameters of `confidence_scores`."""

    of: Literal["top", "label"] = param("top", "top: the highest probability; label: that of the given label")


def confidence_scores(record: Record, params: ConfidenceParams = ConfidenceParams()) -> dict[str, FloatArray]:
    """Return the confidence, by the network as it was last looked at.

    Args:
        record: needs ``confidence`` (or ``p_label``) in eval mode.
    Returns:
        ``confidence`` (N,) float64, 0 to 1; higher is easier.
    Raises:
        InputError: the record has no look in eval mode.
    Cost:
        N.
    Source:
        The highest probability, as in Hendrycks 2017 (arXiv:1610.02136) and Park 2023 (arXiv:2311.01002).
    """
    return {"confidence": last_look(record, "confidence" if params.of == "top" else "p_label", "confidence")}
