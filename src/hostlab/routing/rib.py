"""What a node's routing daemon knows by BGP: its sessions, and the paths to a prefix.

Asked from within the node's namespaces, over the daemon's own socket, whichever of the two it is. A
route of the kernel's says where packets go; this says what the daemon chose from, and of whom it
has heard it.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from hostlab.errors import Failed, Unsupported
from hostlab.routing.bird import BirdSocket, peers
from hostlab.routing.frr import VtySocket
from hostlab.spec import routing_bird, routing_frr

BGPD: Final = f"{routing_frr.RUN}/bgpd.vty"
_HEAD: Final = re.compile(
    r"(?P<net>\S+)?\s+(?P<kind>[a-z]+) \[(?P<name>\S+) [^]]*\](?P<best> \*)? \("
)
"""Of a route that BIRD shows: the prefix stands before the first of several only."""
_NO_NETWORK: Final = "Network not found"


class Path(NamedTuple):
    """One of the paths to a prefix that the daemon has heard of, and not refused."""

    peer: str
    """The address of who told it."""
    next_hop: str
    med: int | None
    as_path: tuple[str, ...]
    is_best: bool


class Rib:
    """The daemon of the node that this process is in.

    Unsupported when none runs, Failed when it does not answer.
    """

    def __init__(self) -> None:
        self._daemon: _Bird | _Frr
        if (sock := _connect(routing_bird.SOCKET)) is not None:
            self._daemon = _Bird(sock)
        elif (sock := _connect(BGPD)) is not None:
            self._daemon = _Frr(sock)
        else:
            hint = f"neither {routing_bird.SOCKET} nor {BGPD} answers"
            raise Unsupported("no-daemon", "no daemon speaks BGP here", hint=hint)

    def close(self) -> None:
        """Hang up."""
        self._daemon.close()

    def paths(self, prefix: str) -> tuple[Path, ...]:
        """The paths to exactly this prefix, those that other routers told of."""
        return tuple(self._daemon.paths(prefix))


def _connect(path: str) -> socket.socket | None:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        sock.close()
        return None
    return sock


class _Bird:
    def __init__(self, sock: socket.socket) -> None:
        self._bird = BirdSocket(sock)

    def close(self) -> None:
        self._bird.close()

    def paths(self, prefix: str) -> Iterator[Path]:
        told = peers(self._bird.ask("show protocols all"))
        addresses = {peer.protocol: peer.address for peer in told}
        family = 6 if ":" in prefix else 4
        try:
            # BGP has a table of its own in what is rendered; in a raw configuration it may not.
            lines = self._bird.ask(f"show route {prefix} table bgp{family} all")
        except Failed as error:
            if _NO_NETWORK in error.message:
                return
            lines = self._of_main_table(prefix, family)
        yield from read_bird_paths(lines, addresses)

    def _of_main_table(self, prefix: str, family: int) -> list[str]:
        try:
            return self._bird.ask(f"show route {prefix} table master{family} all")
        except Failed as error:
            if _NO_NETWORK in error.message:
                return []
            raise


def read_bird_paths(lines: list[str], addresses: dict[str, str]) -> Iterator[Path]:
    """The paths of `show route … all`, of those protocols that have an address."""
    routes: list[tuple[re.Match[str], dict[str, str]]] = []
    for line in lines:
        if (head := _HEAD.match(line)) is not None:
            routes.append((head, {}))
        elif routes:
            key, _, value = line.strip().partition(": ")
            routes[-1][1][key] = value
    for head, attributes in routes:
        if head["name"] in addresses:
            med = attributes.get("BGP.med")
            yield Path(
                peer=addresses[head["name"]],
                next_hop=attributes.get("BGP.next_hop", "").partition(" ")[0],
                med=None if med is None else int(med),
                as_path=tuple(attributes.get("BGP.as_path", "").split()),
                is_best=head["best"] is not None,
            )


class _Frr:
    def __init__(self, sock: socket.socket) -> None:
        self._bgpd = VtySocket("bgpd", sock)

    def close(self) -> None:
        self._bgpd.close()

    def paths(self, prefix: str) -> Iterator[Path]:
        family = "ipv6" if ":" in prefix else "ipv4"
        yield from read_frr_paths(self._json(f"show bgp {family} unicast {prefix} json"))

    def _json(self, command: str) -> dict[str, Any]:
        text = self._bgpd.ask(command)
        try:
            answer: dict[str, Any] = json.loads(text) if text.strip() else {}
        except ValueError:
            message = f"bgpd answers to {command!r}: {text[:200].strip()}"
            raise Failed("frr", message) from None
        return answer


def read_frr_paths(answer: dict[str, Any]) -> Iterator[Path]:
    """The paths of `show bgp … json`."""
    for path in answer.get("paths", ()):
        peer = path.get("peer", {}).get("peerId", "")
        if peer in {"", "::", "0.0.0.0"}:
            continue  # its own
        hops = [hop["ip"] for hop in path.get("nexthops", ()) if hop.get("scope") != "link-local"]
        yield Path(
            peer=peer,
            next_hop=hops[0] if hops else "",
            med=path.get("metric"),
            as_path=tuple(path.get("aspath", {}).get("string", "").split()),
            is_best=bool(path.get("bestpath", {}).get("overall")),
        )
