"""Scores from where a sample lies among the others."""
