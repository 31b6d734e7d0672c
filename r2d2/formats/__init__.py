"""Readers of files that anyone may have written: each compares sizes with a limit before it reads."""
