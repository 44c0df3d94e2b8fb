"""Greedy selection: lazy, and in partitions."""
