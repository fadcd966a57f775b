"""How a command names an init that runs: that of a node, or the one that belongs to no lab."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from hostlab.cli.targets import complete_node, nodes_named, up_labs
from hostlab.errors import UsageError

if TYPE_CHECKING:
    from hostlab.init.client import InitClient

INIT = "."
"""Stands for the init without a lab; no node has this name."""
NEEDED = "NODE or LAB/NODE; needed only where several nodes have the job."


def node_option(function: Callable[..., Any], *, text: str = NEEDED) -> Callable[..., Any]:
    """`--node`, and `--init` for the one that belongs to no lab; both come as `node`."""

    @functools.wraps(function)
    def chosen(*args: Any, init: bool, node: str | None, **options: Any) -> Any:
        return function(*args, node=INIT if init else node, **options)

    option = click.option("-n", "--node", help=text, shell_complete=complete_node)
    text = "The init that runs here without a lab (`hostlab init`)."
    return option(click.option("--init", is_flag=True, help=text)(chosen))


def inits_named(target: str | None) -> Sequence[InitClient]:
    """The inits that are named, or that of every node of every lab, and the one without a lab."""
    from hostlab.init.client import LocalInit
    from hostlab.lab.paths import init_directory, labs

    alone = LocalInit(init_directory())
    if target == INIT:
        return [alone]
    if target is not None:
        return nodes_named(target)
    if alone.is_there():
        return [*(node for lab in labs() for node in nodes_named(f"{lab}/*")), alone]
    return nodes_named(",".join(f"{lab}/*" for lab in up_labs()))


def one_init(target: str | None) -> InitClient:
    """Exactly one."""
    nodes = inits_named(target)
    if len(nodes) != 1:
        where = ", ".join(node.name for node in nodes) or "none"
        hint = "name the node: --node NODE"
        raise UsageError("which-node", f"one node is needed, there are: {where}", hint=hint)
    return nodes[0]
