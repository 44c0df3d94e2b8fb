"""Scores from a kernel of the samples: no training."""
