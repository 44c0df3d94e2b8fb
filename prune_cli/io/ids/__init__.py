"""Ids and labels: read, checked, ordered."""
