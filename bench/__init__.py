"""What the judge costs, as ratios to bare arithmetic that is measured in the same run."""
