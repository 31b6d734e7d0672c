"""Trains epochs of steps of a siamese network, on a CPU or a GPU, alone or as one of many workers."""
