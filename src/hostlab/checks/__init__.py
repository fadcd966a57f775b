"""Expectations about nodes, judged: the verdict type, the probes, and what can be expected."""
