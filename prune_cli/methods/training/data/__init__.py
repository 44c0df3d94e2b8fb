"""What training reads, and its augmentation."""
