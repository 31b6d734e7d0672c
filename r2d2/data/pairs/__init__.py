"""Pairs of views with their correspondence, made of one photograph or of two that are matched."""
