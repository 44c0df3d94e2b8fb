"""Kernel scores: planned, computed in blocks, put together."""
