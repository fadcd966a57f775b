"""Upstart's programs in a node: what `initctl`, `start`, `telinit` do, and how they reach init."""
