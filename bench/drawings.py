"""A network as everybody can build it: nodes, who is on which segment, what runs where.

It comes from a description as hostlab reads it, with short names, for others put them into names of
interfaces; addresses, daemons and what these read are the same for all who build it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from hostlab import spec
from hostlab.spec import routing_frr
from hostlab.spec.model import Lab, Node
from hostlab.spec.routing import Engine
from hostlab.spec.routing_jobs import configurations
from hostlab.spec.routing_lines import text_of
from hostlab.topologies.description import Options
from hostlab.topologies.importing import import_network

SHARED: Final = os.environ.get("HOSTLAB_SHARED", str(Path(__file__).parents[1] / "../shared"))
CORPUS: Final = Path(SHARED, "corpus/topologies").resolve()
DIRECTORY: Final = "@"
"""Stands in a command for the directory with the node's own files."""


class Port(msgspec.Struct, frozen=True):
    """A node's interface."""

    name: str
    segment: str
    addresses: tuple[str, ...]


class Host(msgspec.Struct, frozen=True):
    """A node."""

    name: str
    ports: tuple[Port, ...]
    loopbacks: tuple[str, ...]
    routes: tuple[str, ...]
    """As `ip route` takes them."""
    sysctls: tuple[tuple[str, str], ...]
    files: dict[str, str]
    """Name in the node's directory -> content."""
    commands: tuple[tuple[str, ...], ...]
    """What is run in it, in this order; each puts itself into the background."""


class Drawing(msgspec.Struct, frozen=True):
    """A network."""

    hosts: tuple[Host, ...]
    segments: tuple[str, ...]


def corpus_missing(name: str) -> str | None:
    """Why a network of the corpus cannot be built; None when it can."""
    path = CORPUS / f"{name}.graphml"
    return None if path.exists() else f"{path} is not here; HOSTLAB_SHARED says where the corpus is"


def corpus(name: str, engine: Engine | None) -> Lab:
    """A network of the corpus with perfect links, under a name of this process' own."""
    text = (CORPUS / f"{name}.graphml").read_text(encoding="utf-8")
    options = Options(engine=engine, is_impaired=False)
    found = import_network(text, file=f"{name}.graphml", kind="graphml", options=options)
    return named(spec.load(found.text.encode(), file=f"{name}.yaml", directory="/"))


def named(lab: Lab) -> Lab:
    """The lab under a name that no other one of this machine has."""
    return msgspec.structs.replace(lab, name=f"bench-{os.getpid()}")


def chain(hops: int) -> Lab:
    """`hops` cables in a row, with a router between each two; static routes, IPv4."""
    cables = [f"c{at}" for at in range(hops)]
    lines = ["name: chain", "segments:"]
    lines += [f"  {cable}: 10.1.{at}.0/24" for at, cable in enumerate(cables)]
    lines.append("nodes:")
    for at in range(hops + 1):
        mine = cables[max(0, at - 1) : at + 1]
        lines.append(f"  n{at}: {{interfaces: [{', '.join(mine)}], forwarding: true, routes: [")
        ahead = [f"10.1.{far}.0/24 via n{at + 1}" for far in range(at + 1, hops)]
        back = [f"10.1.{far}.0/24 via n{at - 1}" for far in range(at - 1)]
        lines.append("    " + ", ".join(ahead + back) + "]}")
    return named(spec.load("\n".join(lines).encode(), file="chain.yaml", directory="/"))


def drawing(lab: Lab) -> Drawing:
    """The same network for others."""
    segments = {segment.name: f"s{at}" for at, segment in enumerate(lab.segments)}
    return Drawing(
        hosts=tuple(_host(f"n{at}", node, segments) for at, node in enumerate(lab.nodes)),
        segments=tuple(segments.values()),
    )


def _host(name: str, node: Node, segments: dict[str, str]) -> Host:
    return Host(
        name=name,
        ports=tuple(Port(i.name, segments[i.segment], i.addresses) for i in node.interfaces),
        loopbacks=node.loopbacks,
        routes=tuple(f"{each.to} via {each.via}" for each in node.routes),
        sysctls=node.sysctls,
        files={
            os.path.basename(path): text_of(lines) for path, lines in configurations(node).items()
        },
        commands=_commands(node),
    )


def _commands(node: Node) -> tuple[tuple[str, ...], ...]:
    if node.routing is None:
        return ()
    if node.routing.engine is Engine.BIRD:
        return (("bird", "-c", f"{DIRECTORY}/bird.conf", "-s", f"{DIRECTORY}/bird.ctl"),)
    return tuple(
        (
            f"/usr/lib/frr/{name}", "-d", "-f", f"{DIRECTORY}/{name}.conf",
            "--vty_socket", DIRECTORY, "--vty_port", "0", "-i", f"{DIRECTORY}/{name}.pid",
            "-z", f"{DIRECTORY}/zserv.api", "--log", f"file:{DIRECTORY}/{name}.log",
        )
        for name in routing_frr.daemons(node.routing)
    )  # fmt: skip
