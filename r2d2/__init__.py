"""Holds the science: R2D2 networks, losses, training pairs, keypoints and checkpoints, in plain PyTorch."""
