"""One sweep from its file to its end: planned, estimated, run by Ray Tune, shown, pruned."""
