"""Bans: users whom operators have shut out for a time."""
