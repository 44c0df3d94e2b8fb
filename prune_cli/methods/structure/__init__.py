"""Complexity-aware training: which units and layers a network can do without, what they cost, and cutting them out."""
