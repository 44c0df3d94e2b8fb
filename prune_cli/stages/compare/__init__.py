"""``prune compare``: whether pruning pays, as numbers and a verdict."""
