"""Turns stored sweeps, models and files into the rows of a report, and a report into tables and files."""
