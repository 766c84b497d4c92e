"""Groups: commands, members, and their recovery from the archive."""
