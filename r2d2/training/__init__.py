"""Training: epochs of steps of a siamese network, on a processor or a GPU, alone or as one of many."""
