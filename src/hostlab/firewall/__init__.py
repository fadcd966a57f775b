"""Firewalls as tested code: staged, compared, proved, applied with a way back that is verified.

A ruleset is what a kernel's packet filter holds (`ruleset.py`), whatever file or script made it. It
is staged in a lab of its own (`stage.py`) whose node has the target's interfaces, and there packets
are really sent through it. Nothing here touches the machine's filter but `apply`, with `--live`.
"""
