"""Stages: files to arrays, one method, arrays to files."""
