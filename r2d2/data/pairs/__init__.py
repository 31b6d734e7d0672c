"""Makes pairs of views with their correspondence, of one photograph or of two that are matched."""
