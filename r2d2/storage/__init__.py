"""Reads and writes files in a folder or below a prefix of S3, by the same functions."""
