"""Puts the service together, starts and stops it."""
