"""Draws what a network sees, finds and matches, and the pairs that a training sees."""
