"""Trains and scores a stored training again, and says what came out otherwise, and what differs."""
