"""How a command names labs and nodes: NODE, LAB/NODE, several with commas, and completion."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from hostlab.errors import UsageError
from hostlab.lab.description import staged
from hostlab.lab.paths import labs

if TYPE_CHECKING:
    from hostlab.api import Lab, Node
    from hostlab.spec import Lab as Description


def only_lab() -> str:
    """The one lab that is up; UsageError when there is none or when there are several."""
    found = labs()
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError("no-lab", "no lab is up", hint="stage one: `hostlab up FILE`")
    raise UsageError("which-lab", "several labs are up: " + ", ".join(found), hint="name one")


def up_labs() -> list[str]:
    """The labs that are up; UsageError when there is none."""
    return labs() or [only_lab()]


def lab_named(text: str | None) -> Lab:
    """A lab by name or by its description's path; None is the only one that is up."""
    from hostlab.api import Lab

    return Lab(text if text is not None else only_lab())


def nodes_named(text: str) -> list[Node]:
    """`NODE`, `LAB/NODE`, `LAB/*`, or several of them with commas."""
    from hostlab.api import Lab

    found: list[Node] = []
    running: dict[str, dict[str, Node]] = {}
    for part in text.split(","):
        lab, _, name = part.rpartition("/")
        lab = lab or lab_of(name)
        if lab not in running:
            running[lab] = Lab(lab).nodes()
        if name == "*":
            found += running[lab].values()
        else:
            from hostlab.lab.access import known_node

            found.append(running[lab][known_node(tuple(running[lab]), name, lab)])
    return found


def one_node(text: str) -> Node:
    """Exactly one node."""
    found = nodes_named(text)
    if len(found) != 1:
        raise UsageError("one-node", f"one node is wanted, {text!r} names {len(found)}")
    return found[0]


def described_nodes(text: str | None) -> list[tuple[Node, Description]]:
    """The nodes that `text` names, or all of the only lab that is up, each with its lab's."""
    nodes = nodes_named(f"{only_lab()}/*" if text is None else text)
    found = []
    for node in nodes:
        described = staged(node.lab)
        assert described is not None, "a node that is there was described"
        found.append((node, described))
    return found


def lab_of(node: str) -> str:
    """The only running lab with a node of this name."""
    running = labs()
    candidates = [lab for lab in running if node == "*" or node in _node_names(lab)]
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        return node if node in running else only_lab()
    hint = f"say {candidates[0]}/{node}"
    raise UsageError("which-lab", f"{node!r} is in: {', '.join(candidates)}", hint=hint)


def _node_names(lab: str) -> list[str]:
    described = staged(lab)
    return [] if described is None else [node.name for node in described.nodes]


def complete_lab(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Running labs, and description files."""
    found = [CompletionItem(lab) for lab in labs() if lab.startswith(incomplete)]
    directory = os.path.dirname(incomplete) or "."
    if os.path.isdir(directory):
        return [*found, CompletionItem(incomplete, type="file")]
    return found


def complete_node(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Nodes of running labs; with the lab's name where several are up."""
    running = labs()
    every = [
        name if len(running) == 1 else f"{lab}/{name}"
        for lab in running
        for name in _node_names(lab)
    ]
    return [CompletionItem(name) for name in every if name.startswith(incomplete)]
