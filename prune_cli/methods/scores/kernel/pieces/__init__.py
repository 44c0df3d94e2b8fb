"""What kernel scores are made of: pieces, each of independent blocks."""
