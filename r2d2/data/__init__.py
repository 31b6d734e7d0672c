"""Makes training data: photographs, pairs, batches."""
