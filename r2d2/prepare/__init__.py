"""Prepares data: downloads, archives and folders become a place with a manifest."""
