"""Training data: photographs, pairs, batches."""
