"""Asks questions: one file is one sweep, and one sweep is one MLflow experiment."""
