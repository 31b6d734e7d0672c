"""Runs one sweep from its file to its end: plans and estimates it, has Ray Tune run it, shows and prunes it."""
