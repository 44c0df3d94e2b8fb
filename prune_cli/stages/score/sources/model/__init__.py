"""Networks that exist."""
