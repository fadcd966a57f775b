"""hostlab: a host is a description."""

__version__ = "0.1.0"
