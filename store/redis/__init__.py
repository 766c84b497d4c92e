"""Redis: connections, keys, scripts, leases and lists of work."""
