"""Computes what a network is trained with: a reliability, a similarity and a peakiness term.

A loss must not import, directly or indirectly, the network, `r2d2.storage`, boto3, requests, Ray or MLflow;
the import contracts in pyproject.toml enforce this. By convention it reads no file and logs nothing.
"""
