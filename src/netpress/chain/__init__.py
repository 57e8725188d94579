"""Many versions of a model in one folder, each as the difference to the one before."""

from netpress.chain.update_chain import ChainLink, UpdateChain

__all__ = ["ChainLink", "UpdateChain"]
