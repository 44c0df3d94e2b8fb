"""``prune evaluate``: a run folder and a test set in, a report manifest out."""
