"""Parquet in and out: tables, vectors, provenance."""
