"""Timelines: written by appends, read by pulls, recovered from the archive."""
