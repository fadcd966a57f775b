"""A description's checks outside of its lab: on this machine, and on the hosts of an inventory.

Which checks a host has is told by its name and its roles, as in the lab: those of the node that is
called as it is, those of its roles, and those of the lab that name either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec

from hostlab.checks.inventory import Inventory, InventoryHost
from hostlab.checks.remote import OPTIONS, RemoteHost
from hostlab.errors import UsageError
from hostlab.spec.model import Lab, Node


def live(lab: Lab, hosts: Sequence[str], machine: str) -> tuple[Lab, dict[str, RemoteHost]]:
    """The description with only the node that this machine is, and the way to it.

    It is the only node, or the only one that `hosts` name, or the one that is called `machine`, as
    this one calls itself. `UsageError` when there is none or are several.
    """
    found = [node for node in lab.nodes if _is_meant(node.name, hosts)]
    if len(found) > 1:
        short = machine.partition(".")[0].lower()
        found = [node for node in found if node.name.lower() == short]
    if len(found) != 1:
        names = ", ".join(node.name for node in lab.nodes[:20])
        hint = f"name one with --host: {names}" if names else "the description has no node"
        raise UsageError("live", f"which node is this machine, {machine}?", hint=hint)
    checks = tuple(
        msgspec.structs.replace(check, nodes=(found[0].name,))
        for check in lab.checks
        if found[0].name in check.nodes
    )
    only = msgspec.structs.replace(lab, nodes=(found[0],), checks=checks)
    return only, {found[0].name: RemoteHost(found[0].name, None)}


def _is_meant(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)


def by_ssh(lab: Lab, inventory: Inventory, file: str) -> tuple[Lab, Mapping[str, RemoteHost]]:
    """The description with the inventory's hosts for nodes, and the ways to them."""
    described = {node.name: node.roles for node in lab.nodes}
    nodes = tuple(
        Node(
            name=host.name,
            hostname=host.name,
            roles=tuple(dict.fromkeys((*described.get(host.name, ()), *host.roles))),
        )
        for host in inventory.hosts
    )
    checks = tuple(
        msgspec.structs.replace(
            check, nodes=tuple(n.name for n in nodes if _concerns(check.about, n))
        )
        for check in lab.checks
    )
    config = ("-F", file) if inventory.is_ssh_config else ()
    ways = {
        host.name: RemoteHost(host.name, _ssh(host, config), python=host.python)
        for host in inventory.hosts
    }
    return msgspec.structs.replace(lab, nodes=nodes, checks=checks), ways


def _concerns(about: Sequence[str], node: Node) -> bool:
    """By its name, its name without its domain, or a role; `all` is a role of every host."""
    names = {node.name, node.name.partition(".")[0], *node.roles, "all"}
    return any(each in names for each in about)


def _ssh(host: InventoryHost, config: tuple[str, ...]) -> tuple[str, ...] | None:
    """What runs a command line on the host; None: it is this machine."""
    if host.is_local:
        return None
    words = [
        "ssh",
        *config,
        *(word for key, value in OPTIONS.items() for word in ("-o", f"{key}={value}")),
    ]
    for option, value in (("-p", host.port), ("-l", host.user), ("-i", host.key)):
        if value is not None:
            words += [option, str(value)]
    return (*words, *host.arguments, "--", host.address or host.name)
