"""`hostlab firewall` for a node, as somebody in it would say it: the same code, run there."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from hostlab import typed
from hostlab.cli.targets import complete_node, one_node
from hostlab.errors import Unsupported

if TYPE_CHECKING:
    from hostlab.api import Node
    from hostlab.firewall.staged import Staged


def hosting_node(name: str) -> Node:
    """A node in which hostlab itself runs; Unsupported where it has another root than ours."""
    node = one_node(name)
    if node.execute((sys.executable, "-P", "-c", "import hostlab.cli.main")).status:
        raise Unsupported(
            "no-hostlab",
            f"node {node.name} does not see this machine's hostlab, which keeps its way back",
            hint="its `firewall:` in the description changes such a node, and `hostlab apply`",
        )
    return node


def in_that_node(function: Callable[..., None]) -> Callable[..., int]:
    """Give a command about this machine the option `--node`: it is run in that node instead."""

    @click.option("--node", shell_complete=complete_node, help="A running lab's node is meant.")
    @functools.wraps(function)
    def command(*, node: str | None, **options: Any) -> int:
        if node is not None:
            name = click.get_current_context().info_name or ""
            words = ("--json",) if options.get("as_json") else ()
            return run_in_node(hosting_node(node), name, *words)
        function(**options)
        return 0

    return command


def run_in_node(node: Node, *words: str) -> int:
    """`hostlab firewall …` in a node, with this terminal; its exit status."""
    from hostlab.cli.session import run_session

    program = (sys.executable, "-P", "-m", "hostlab.cli.main", "firewall")
    return run_session(node, (*program, *words), tty=None)


def hand_in(node: Node, staged: Staged) -> str:
    """Give a node what was staged outside; the file there, which is gone once it was read."""
    import msgspec

    path = f"/run/hostlab-firewall-{os.getpid()}"
    node.shell(f"umask 077 && cat >{path}", stdin=msgspec.json.encode(staged))
    return path


def handed_in(path: str) -> Staged:
    """What was staged outside; called in the node."""

    from hostlab.firewall.staged import Staged

    with open(path, "rb") as file:
        data = file.read()
    os.unlink(path)
    return typed.decode(data, Staged)
