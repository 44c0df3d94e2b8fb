"""Images: folders of them, columns of them, and their pixels."""
