"""Stored sweeps, models and files become contenders, and contenders become a report."""
