"""``prune select`` and ``prune manifest top-up``: score manifests in, selection manifests out."""
