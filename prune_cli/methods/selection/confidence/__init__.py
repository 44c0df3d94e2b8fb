"""Neighbor confidence (Prune4ReL)."""
