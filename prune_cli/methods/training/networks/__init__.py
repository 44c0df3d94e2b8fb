"""Networks: built, loaded, asked for predictions."""
