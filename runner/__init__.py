"""Runs sweeps: the command line, trials, and all that knows Ray and MLflow."""
