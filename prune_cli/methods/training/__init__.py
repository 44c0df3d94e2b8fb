"""Training: networks, augmentation, and the one loop every recipe runs on."""
