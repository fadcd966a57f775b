"""Names: the file that every node sees as its /etc/hosts, and its resolver's configuration.

One file serves the whole lab and is changed in place, so nodes that run see new ones at once. Only
a node with links has a file of its own. Nothing outside answers, and the resolver is told so: an
unknown name fails at once instead of after a time-out.
"""

from __future__ import annotations

import contextlib
import os
import shutil

from hostlab.lab.paths import LabDirectory
from hostlab.spec.model import Lab, Node

_LOCAL = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "ff02::1\tip6-allnodes\n"
    "ff02::2\tip6-allrouters\n"
)
_RESOLVER = "# names are in /etc/hosts; nothing else answers in this lab\noptions timeout:1\n"


def path_of(directory: LabDirectory, node: Node) -> str:
    """The hosts file that a node sees."""
    if node.links:
        return f"{directory.node(node.name)}/hosts"
    return f"{directory.path}/hosts"


def resolver_path(directory: LabDirectory) -> str:
    """The resolver configuration that every node sees."""
    return f"{directory.path}/resolv.conf"


def table(lab: Lab) -> str:
    """Every node by its name, and by its host name where that differs."""
    lines = [_LOCAL]
    for node in lab.nodes:
        names = node.name if node.hostname == node.name else f"{node.name} {node.hostname}"
        for interface in node.interfaces:
            lines += [f"{address.partition('/')[0]}\t{names}\n" for address in interface.addresses]
        lines += [f"{address.partition('/')[0]}\t{names}\n" for address in node.loopbacks]
    return "".join(lines)


def with_links(lab: Lab, node: Node, common: str) -> str:
    """The table of a node with links: their aliases stand first."""
    lines = []
    for link in node.links:
        for interface in lab.node(link.node).interfaces:
            lines += [f"{a.partition('/')[0]}\t{link.alias}\n" for a in interface.addresses]
    return "".join(lines) + common


def write(directory: LabDirectory, lab: Lab) -> None:
    """Write every file that differs from what it should say; in place, as nodes have it mounted."""
    common = table(lab)
    _update(f"{directory.path}/hosts", common)
    _update(resolver_path(directory), _RESOLVER)
    for node in lab.nodes:
        if node.links:
            os.makedirs(directory.node(node.name), mode=0o700, exist_ok=True)
            _update(path_of(directory, node), with_links(lab, node, common))


def forget(directory: LabDirectory, node: str) -> None:
    """Remove a node's directory after the node."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(directory.node(node))


def _update(path: str, text: str) -> None:
    data = text.encode()
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    with os.fdopen(fd, "r+b") as file:
        if file.read() == data:
            return
        file.seek(0)
        file.write(data)
        file.truncate()
