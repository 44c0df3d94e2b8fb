"""Selections that cover the feature space."""
