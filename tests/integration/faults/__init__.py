"""Tests what a 204 is worth: servers and processes die at random moments of a load, and nothing is missing.

Moments are drawn from a seed, which a failure shows; CHAOS_SEED=… plays it again, CHAOS_ROUNDS=… takes more of them.
"""
