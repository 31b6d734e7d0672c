"""Extracts the keypoints and descriptors of an image, over a pyramid of its sizes."""
