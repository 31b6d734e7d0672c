"""Computes means, differences, intervals and p-values over sequences and seeds."""
