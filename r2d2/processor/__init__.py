"""Handles what PyTorch leaves to its users on processors and GPUs: faults, memory, and what float32 means."""
