"""Keeps what operators and the broker need: dead letters, permission changes to carry out, health."""
