"""``prune manifest``: make, check, combine, import and export manifests."""
