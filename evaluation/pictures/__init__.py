"""Pictures of what a network sees, finds and matches, and of what a training is fed."""
