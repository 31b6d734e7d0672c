"""Computes what a network is trained with: a reliability, a similarity and a peakiness term."""
