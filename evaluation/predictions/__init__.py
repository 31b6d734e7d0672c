"""Gives keypoints and descriptors of a benchmark's images: extracted, read or stored."""
