"""Tags: who holds them, how many change at once, and their recovery from the archive."""
