"""Writes experiments, runs, figures and tables to MLflow.

An interrupted run is continued: `Tracker.open_run` finds it by the tag `r2d2.key` and sets it to RUNNING, and
`RunLogger` logs only the events whose steps MLflow lacks (`TrialRun.has`; the tag `r2d2.events` counts them).
"""
