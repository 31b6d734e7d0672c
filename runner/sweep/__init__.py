"""Runs one sweep from its file to its end: plans it, estimates it, runs it with Tune, shows it, prunes it."""
