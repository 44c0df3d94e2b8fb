"""Dynamic uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

from prune_cli.core.params import param
from prune_cli.methods.scores.record.needs import RecordNeeds, RecordParams
from prune_cli.methods.scores.record.records import FloatArray, Record
from prune_cli.methods.scores.record.windows import mean_of_windows, window_size


@dataclass(frozen=True)
class DynUncParams(RecordParams):
    """Parameters of `dyn_unc_scores`."""

    window: int | None = param(None, "passes in a window; none: a third of the passes, 2 to 10", low=2)

    def needs(self, epochs: int) -> RecordNeeds:
        """Return all of a training."""
        return RecordNeeds("train", epochs)


def dyn_unc_scores(record: Record, params: DynUncParams = DynUncParams()) -> dict[str, FloatArray]:
    """Return the dynamic uncertainty: the mean, over sliding windows of passes, of the deviation of p_y.

    Args:
        record: needs ``p_label`` in training.
        params: see `DynUncParams`.
    Returns:
        ``dyn_unc`` (N,) float64, 0 to 1/2; higher is harder.
    Raises:
        InputError: fewer passes than a window.
    Cost:
        N T J, J arrays of N numbers.
    Source:
        He et al., CVPR 2024 workshops, arXiv:2306.05175: J = 10. The deviation is that of the window itself (divided
        by J); another divisor scales all scores alike.
    """
    window = window_size(record.n_epochs, params.window)
    return {"dyn_unc": mean_of_windows(record, "dyn_unc", record.n_epochs, window, lambda p_jn: p_jn.std(axis=0))}
