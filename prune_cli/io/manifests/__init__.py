"""The kinds of manifests, read and written."""
