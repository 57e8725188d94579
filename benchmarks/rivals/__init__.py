"""Rivals beside netpress, one module each."""
