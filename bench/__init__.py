"""Measures extraction, scoring, pairs and training steps, as ratios to bare arithmetic of the same run."""
