"""Starts or joins a Ray cluster, says what it holds, and runs jobs on it."""
