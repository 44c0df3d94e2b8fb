"""Engines: where blocks of work run."""
