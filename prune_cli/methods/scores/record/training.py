"""The training that scores of the record share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prune_cli.core.params import param


@dataclass(frozen=True)
class TrainingParams:
    """Parameters of the training that the scores of a record share; how it trains is the recipe's."""

    epochs: int = param(200, "passes of the training (--epochs), as published; --preset fast is 20", low=1)
    runs: int = param(1, "trainings with seeds of their own, whose scores are averaged", low=1)
    augment: Literal["none", "strong"] = param(
        "none", "what the features are taken of: pictures as they are, or augmented"
    )
