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
from hostlab.linux.running import Ended, Running, start_inside
from hostlab.plan.firewall import TABLE, Line, render, text
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


def load(nodes: Iterable[tuple[NodeHandle, Node]], *, is_new: bool) -> None:
    """Make nodes' tables as their description says, each in one transaction; without one, none.

    A node that `is_new` has none yet. Failed with the description's line where the kernel refuses
    a rule: that table is as it was.
    """
    waiting = list(nodes)
    while waiting:
        # A transaction waits for every CPU to have been elsewhere, so several cost little more.
        with ExitStack() as stack:
            begun = []
            for handle, node in waiting[:AT_ONCE]:
                lines = render(node.name, node.firewall, "" if is_new else _there(handle, node))
                running = _start(handle, ("-f", "-"), text(lines))
                begun.append((node, lines, stack.enter_context(running)))
            for node, lines, running in begun:
                done = _ended(node, running)
                if done.returncode:
                    raise refused(node.name, lines, done.stderr.decode(errors="replace"))
        del waiting[:AT_ONCE]


def _there(handle: NodeHandle, node: Node) -> str:
    """nft's listing of the table that the node has, without counters; empty for none."""
    with _start(handle, ("-s", "list", "table", *TABLE.split())) as running:
        done = _ended(node, running)
    return "" if done.returncode else done.stdout.decode(errors="replace")


def _start(handle: NodeHandle, words: Sequence[str], stdin: str = "") -> Running:
    return start_inside(handle.pid, ("net",), ("nft", *words), stdin=stdin.encode())


def _ended(node: Node, running: Running) -> Ended:
    try:
        return running.wait(TIMEOUT_S)
    except FileNotFoundError:
        message = f"node {node.name} has a firewall, and nft is not here"
        raise Unsupported(_NO_NFT, message, hint="apt-get install nftables") from None


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
