"""Networks that runs have kept: loaded into a notebook, or asked about pictures."""

from utils.predict.network import load_network

__all__ = ["load_network"]
