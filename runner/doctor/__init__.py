"""Finds what is wrong with a machine or a cluster before anything is started."""
