"""Pages of HTML and their plots."""
