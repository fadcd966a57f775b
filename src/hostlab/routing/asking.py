"""The sessions of whatever routing daemon runs in a node, whoever wrote its configuration."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from typing import Final

from hostlab.errors import Unsupported
from hostlab.linux.entering import from_inside
from hostlab.routing.bird import BirdSocket, neighbours, peers
from hostlab.routing.expected import Adjacency
from hostlab.routing.frr import Frr
from hostlab.routing.sessions import Sessions
from hostlab.spec import routing_bird, routing_frr

_INSIDE: Final = ("user", "mnt", "net")
_BIRD: Final = "bird"
_FRR: Final = ("ospfd", "ospf6d", "bgpd")


def sessions_of(pid: int) -> Sessions:
    """The sessions now, of the daemons in the namespaces of process `pid`.

    `Unsupported` where there is no daemon that answers, `Failed` when one answers nonsense.
    """
    sockets = _connected(pid)
    bird = sockets.pop(_BIRD, None)
    if bird is not None:
        for other in sockets.values():
            other.close()
        return sessions_from_bird(bird)
    if not sockets:
        hint = f"sockets looked for: {', '.join(_paths().values())}"
        raise Unsupported("routing", "no daemon of routing answers in the node", hint=hint)
    frr = Frr(sockets)
    try:
        return frr.sessions()
    finally:
        frr.close()


def _paths() -> dict[str, str]:
    frr = {name: f"{routing_frr.RUN}/{name}.vty" for name in _FRR}
    return {_BIRD: routing_bird.SOCKET, **frr}


def _connected(pid: int) -> dict[str, socket.socket]:
    """A connection to each daemon that is there."""
    paths = _paths()

    def work() -> tuple[bytes, Sequence[int]]:
        names, found = [], []
        for name, path in paths.items():
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                sock.connect(path)
            except OSError as error:
                sock.close()
                if error.errno not in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR):
                    raise
                continue
            names.append(name)
            found.append(sock.detach())
        return " ".join(names).encode(), found

    answer, fds = from_inside(pid, _INSIDE, work)
    names = answer.decode().split()
    return {name: socket.socket(fileno=fd) for name, fd in zip(names, fds, strict=True)}


def sessions_from_bird(sock: socket.socket) -> Sessions:
    """Those of a BIRD that is configured in whatever way; the connection is closed."""
    bird = BirdSocket(sock)
    found = Sessions()
    try:
        for line in bird.ask("show protocols"):
            words = line.split()
            if len(words) < 2:
                continue
            name, protocol = words[:2]
            if protocol == "OSPF":
                told = bird.ask(f'show protocols all "{name}"')
                family = 6 if any("Channel ipv6" in each for each in told) else 4
                for interface, neighbour in neighbours(bird.ask(f"show ospf neighbors {name}")):
                    where = Adjacency(family, interface)
                    found.neighbours.setdefault(where, {})[neighbour.router_id] = neighbour
            elif protocol == "BGP":
                told = bird.ask(f'show protocols all "{name}"')
                found.peers |= {peer.address: peer.state for peer in peers(told)}
    finally:
        bird.close()
    return found
