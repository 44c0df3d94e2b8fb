"""Rows of samples as a kernel sees them."""
