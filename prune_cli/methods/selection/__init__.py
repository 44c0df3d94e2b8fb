"""Selections: which samples to keep, in which order."""
