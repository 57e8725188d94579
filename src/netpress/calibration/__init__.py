"""Calibration: what a network's inputs say about its weights, and integers that are chosen with that knowledge."""
