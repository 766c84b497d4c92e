"""Presence: the users who are online, and when each was seen."""
