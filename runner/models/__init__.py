"""Applies one model by hand: scores it, draws what it sees, extracts keypoints."""
