"""Folders of runs: trained models, finished blocks, locks."""
