"""Structured pruning: whole channels go."""
