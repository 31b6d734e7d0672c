"""What a network is trained with: a reliability, a similarity and a peakiness term. Losses do not log."""
