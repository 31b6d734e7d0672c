"""One training inside Ray Train: its driver, its workers, its scores, and how it goes on after a fault."""
