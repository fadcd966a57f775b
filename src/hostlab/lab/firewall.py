"""A node's described firewall in its kernel: hostlab's own table, and no other.

The hub loads it from outside, in the node's network: before the node's first process goes on, so
that no job ever runs without it, and again when the description changes. A node needs no nft.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Final

from hostlab.errors import Failed, Unsupported
from hostlab.lab.nodes import NodeHandle
from hostlab.linux.running import Running, start_inside
from hostlab.plan.firewall import Line, render, text
from hostlab.spec.model import Node

AT_ONCE: Final = 8
TIMEOUT_S: Final = 60.0
"""nft takes milliseconds; this is for a machine that is swapping."""
_REFUSED: Final = "firewall"
_NO_NFT: Final = "no-nft"
UNCHANGED: Final = frozenset({_REFUSED, _NO_NFT})
"""Codes of failures after which the node's table is as it was."""
_COMPLAINT: Final = re.compile(r"^\S+?:(?P<line>\d+):\d+-\d+: Error: (?P<reason>.*)$", re.M)

_TOO_LONG: Final = os.strerror(errno.EMSGSIZE)
_SIZE_HINT: Final = (
    "it is larger than what the kernel takes at once from the lab's root, some hundred rules;"
    " net.core.wmem_max of the machine bounds it"
)


def load(nodes: Iterable[tuple[NodeHandle, Node]]) -> None:
    """Make nodes' tables as their description says, each in one transaction; without one, none.

    Failed with the description's line where the kernel refuses a rule: that table is as it was.
    """
    waiting = list(nodes)
    while waiting:
        # A transaction waits for every CPU to have been elsewhere, so several cost little more.
        with ExitStack() as stack:
            begun = [(node, *_start(stack, handle, node)) for handle, node in waiting[:AT_ONCE]]
            for node, lines, running in begun:
                _finish(node, lines, running)
        del waiting[:AT_ONCE]


def _start(stack: ExitStack, handle: NodeHandle, node: Node) -> tuple[Sequence[Line], Running]:
    lines = render(node.name, node.firewall)
    stdin = text(lines).encode()
    running = start_inside(handle.pid, ("net",), ("nft", "-f", "-"), stdin=stdin)
    return lines, stack.enter_context(running)


def _finish(node: Node, lines: Sequence[Line], running: Running) -> None:
    try:
        done = running.wait(TIMEOUT_S)
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
        message = f"node {node}: its firewall is refused: {said.strip()}"
        return Failed(_REFUSED, message, hint=_SIZE_HINT if _TOO_LONG in said else None)
    line = lines[number - 1]
    place = f"{line.place}: " if line.place else ""
    message = f"node {node}: {place}its firewall is refused: {found['reason'].strip()}"
    return Failed(_REFUSED, message, hint=f"for nft it was `{line.text.strip()}`")
