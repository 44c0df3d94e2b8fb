"""Names of what a dynamics record keeps of each sample: those that compute it and those that store it share them."""

from __future__ import annotations

from typing import Literal

Mode = Literal["train", "eval"]
"""``train``: the network as it was when the sample was presented, augmented. ``eval``: un-augmented, after a pass."""

MEASURES = ("p_label", "margin_logit", "margin_prob", "error_norm", "loss", "correct", "entropy", "confidence", "top_gap")
"""Columns that every record has, in the order they are computed in."""

PROB_CHANGE, GRADIENT_NORM = "prob_change", "gradient_norm"
"""Columns that are null where nobody asked for them."""

COLUMNS = (*MEASURES, PROB_CHANGE, GRADIENT_NORM)

CURES = {GRADIENT_NORM: "make the record with --method grand", PROB_CHANGE: "make the record with --method tdds, or with --save-dynamics"}
"""What to do where such a column is wanted and empty."""
