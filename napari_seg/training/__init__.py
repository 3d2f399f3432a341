"""Corrections → better model: losses, sampling, augmentation, the loop, the guard."""
