"""Benchmarks: pairs of images with known homographies, from HPatches or made of validation photographs."""
