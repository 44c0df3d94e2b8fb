"""The linear classifier that selections are compared by."""
