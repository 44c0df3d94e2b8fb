"""``prune report``: files in, one page of HTML out."""
