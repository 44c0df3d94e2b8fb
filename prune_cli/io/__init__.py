"""Files: manifests, images, run folders, and how they are written whole."""
