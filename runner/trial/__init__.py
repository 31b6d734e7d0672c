"""Runs one training inside Ray Train: its driver, workers and scores, and how it goes on after a fault.

`scoring.py` writes a score down, by way of `runner/record/history.py`. `recovery.py` decides what happens
when a worker dies.
"""
