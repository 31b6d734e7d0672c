"""Stores what a sweep leaves on a disk or S3: its definition, its drivers' claims, its histories.

Everything else (MLflow, tables, Tune's view) is made from these files.
"""
