"""Updates of a model: what encoder and decoder keep from one update to the next."""
