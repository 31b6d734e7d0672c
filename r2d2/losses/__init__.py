"""Computes what a network is trained with: a reliability, a similarity and a peakiness term.

A loss may import torch, `r2d2.containers`, `r2d2.warp`, `r2d2.settings` and its neighbours here. It may not
import the network, storage, boto3, Ray or MLflow: it reads no file, logs nothing and does not know the
network. The import contracts in pyproject.toml enforce this.
"""
