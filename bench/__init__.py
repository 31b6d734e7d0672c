"""What extraction, scoring, pairs and training steps cost, as ratios to bare arithmetic of the same run."""
