"""``prune score``: a data manifest in, a score manifest out."""
