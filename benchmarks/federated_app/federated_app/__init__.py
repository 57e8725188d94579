"""``benchmarks/federated.py`` as a Flower app. ``federated_problems`` has to be on the path of all processes."""
