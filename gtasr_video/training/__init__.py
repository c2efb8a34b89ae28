"""Learning: clips, losses, loop, runs on disk."""
