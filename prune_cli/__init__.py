"""Train on less and cleaner data: score, select, train and evaluate, each a step from file to file."""

__version__ = "0.1.0"
