"""Tags: their holders, changes of very many at once, and their recovery from the archive."""
