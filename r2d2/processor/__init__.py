"""Avoids faults and costs of PyTorch on processors, each with its measurement."""
