"""A node's described firewall in its kernel: hostlab's own table, and no other.

The hub loads it from outside, in the node's network: before the node's first process goes on, so
that no job ever runs without it, and again when the description changes. A node needs no nft.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from hostlab.errors import Failed, Unsupported
from hostlab.lab.nodes import NodeHandle
from hostlab.linux.running import run_inside
from hostlab.plan.firewall import Line, render, text
from hostlab.spec.model import Node

TIMEOUT_S: Final = 60.0
"""nft takes milliseconds; this is for a machine that is swapping."""
_REFUSED: Final = "firewall"
_NO_NFT: Final = "no-nft"
UNCHANGED: Final = frozenset({_REFUSED, _NO_NFT})
"""Codes of failures after which the node's table is as it was."""
_COMPLAINT: Final = re.compile(r"^\S+?:(?P<line>\d+):\d+-\d+: Error: (?P<reason>.*)$", re.M)


def load(handle: NodeHandle, node: Node) -> None:
    """Make the node's table as its description says, in one transaction; without one, none.

    Failed with the description's line where the kernel refuses a rule: nothing has changed then.
    """
    lines = render(node.name, node.firewall)
    try:
        done = run_inside(
            handle.pid,
            ("net",),
            ("nft", "-f", "-"),
            stdin=text(lines).encode(),
            timeout_s=TIMEOUT_S,
        )
    except FileNotFoundError:
        message = f"node {node.name} has a firewall, and nft is not here"
        raise Unsupported(_NO_NFT, message, hint="apt-get install nftables") from None
    if done.returncode:
        raise refused(node.name, lines, done.stderr.decode(errors="replace"))


def refused(node: str, lines: Sequence[Line], said: str) -> Failed:
    """nft's first complaint, at the line of the description that it is about."""
    found = _COMPLAINT.search(said)
    number = int(found["line"]) if found else 0
    if found is None or not 0 < number <= len(lines):
        return Failed(_REFUSED, f"node {node}: its firewall is refused: {said.strip()}")
    line = lines[number - 1]
    place = f"{line.place}: " if line.place else ""
    message = f"node {node}: {place}its firewall is refused: {found['reason'].strip()}"
    return Failed(_REFUSED, message, hint=f"for nft it was `{line.text.strip()}`")
