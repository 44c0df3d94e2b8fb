"""Nearest neighbors and graphs of them."""
