"""How good a classifier is: accuracy, loss, calibration, and where it errs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from prune_cli.core.errors import InputError, NumericalError

CALIBRATION_BINS = 15


def classification_metrics(logits_nc: NDArray[np.floating], labels_n: NDArray[np.int64], n_classes: int) -> dict[str, Any]:
    r"""Return the figures of a classifier from its logits.

    The calibration error is ``sum_b n_b / N |accuracy_b - confidence_b|`` over equal bins of the highest probability.

    Args:
        logits_nc: (N, C) float; equal logits count for the class with the lowest code.
        labels_n: (N,) int64, 0 to C - 1.
    Returns:
        ``accuracy``: share whose highest logit is that of the label.
        ``top5``: share whose label is among the five highest; only with more than 5 classes.
        ``loss``: mean cross-entropy in nats.
        ``ece``: expected calibration error over 15 bins, L1.
        ``class_accuracy``: (C,) float64, accuracy among the samples of each class, NaN for a class without samples.
        ``confusion``: (C, C) int64, samples by label (row) and prediction (column).
    Raises:
        InputError: no samples, shapes that do not fit, a label out of range.
        NumericalError: a logit is not finite.
    Cost:
        N C.
    Source:
        torchmetrics; calibration error of Naeini 2015 and Guo 2017.
    """
    n = len(labels_n)
    if n == 0:
        raise InputError("no samples to evaluate", "give at least one")
    if logits_nc.shape != (n, n_classes):
        raise InputError(f"logits are {logits_nc.shape}, not ({n}, {n_classes})", "give a row a sample, a column a class")
    if labels_n.min() < 0 or labels_n.max() >= n_classes:
        raise InputError(f"labels reach from {labels_n.min()} to {labels_n.max()}", f"give 0 to {n_classes - 1}")
    if not np.isfinite(logits_nc).all():
        raise NumericalError("a logit is not finite", "check the model and its inputs")
    import torch
    import torch.nn.functional as F
    from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error, multiclass_confusion_matrix

    logits = torch.from_numpy(np.array(logits_nc, dtype=np.float64))
    labels = torch.from_numpy(np.array(labels_n, dtype=np.int64))
    confusion_cc = multiclass_confusion_matrix(logits, labels, n_classes).numpy().astype(np.int64)
    sizes_c = confusion_cc.sum(axis=1)
    class_accuracy_c = np.full(n_classes, np.nan)
    np.divide(np.diagonal(confusion_cc), sizes_c, out=class_accuracy_c, where=sizes_c > 0)
    ece = multiclass_calibration_error(logits.softmax(dim=1), labels, n_classes, n_bins=CALIBRATION_BINS, norm="l1")
    metrics: dict[str, Any] = {
        "accuracy": float(np.trace(confusion_cc)) / n,
        "loss": float(F.cross_entropy(logits, labels)),
        "ece": float(ece),
        "class_accuracy": class_accuracy_c,
        "confusion": confusion_cc,
    }
    if n_classes > 5:
        metrics["top5"] = float(multiclass_accuracy(logits, labels, n_classes, average="micro", top_k=5))
    return metrics
