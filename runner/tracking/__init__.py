"""Writes experiments, runs, figures and tables to MLflow.

An interrupted run is continued: `Tracker.open_run` finds it by the tag `r2d2.key` and sets it to RUNNING, and
`RunLogger` logs only the events that MLflow lacks (`TrialRun.has`). The tag `r2d2.events` holds the number of
logged events, by which a complete run is skipped.
"""
