"""Scores networks on benchmarks, and compares the scores."""
