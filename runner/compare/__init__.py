"""Stored sweeps, models and files become the rows of a report, and a report becomes tables and files."""
