"""``prune train``: a data manifest and a selection in, a run folder out."""
