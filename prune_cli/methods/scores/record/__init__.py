"""Scores from a record of what a network says of each sample."""
