"""Staging: from a description to hosts on this machine, and back to nothing."""
