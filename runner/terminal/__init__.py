"""Writes to the terminal: cleaned text, tables that fit, words while something takes long."""
