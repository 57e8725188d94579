"""Real values and integers: which step a tensor gets, and the quantisers."""
