"""The version of the distribution: semantic, one for client and server."""

__version__ = "0.1.0"
