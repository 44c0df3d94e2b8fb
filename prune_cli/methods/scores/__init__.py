"""Scores: a number per sample and its direction."""
