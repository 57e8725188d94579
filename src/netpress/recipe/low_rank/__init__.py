"""Weights in the place of which two smaller factors travel."""
