"""Expectations about nodes and their verdicts."""
