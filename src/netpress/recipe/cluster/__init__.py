"""Cluster quantisation: few distinct values for each weight."""
