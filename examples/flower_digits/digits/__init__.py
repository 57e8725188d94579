"""Federated digits: a Flower app whose messages netpress compresses."""
