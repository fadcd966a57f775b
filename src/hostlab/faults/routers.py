"""What only a routing daemon can do: its BGP sessions are reset, its announcements withheld.

The daemon itself does it, asked over its control socket, so that its peers see what they would see
of a real one. BIRD is given a second configuration in which every export refuses the prefix, and
its own again; bgpd is told a route map. Neither loses a session by that. A daemon that is started
anew meanwhile reads what is described, and the fault has ended with the one before it.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from hostlab import typed
from hostlab.errors import Failed, UsageError
from hostlab.faults.site import Site, State
from hostlab.routing import watching
from hostlab.routing.bird import BirdSocket
from hostlab.routing.frr import VtySocket
from hostlab.spec import routing_bird, routing_frr
from hostlab.spec.faults import option
from hostlab.spec.model import Fault
from hostlab.spec.routing import Bgp, Engine, Peer, Routing, with_withheld
from hostlab.spec.routing_lines import text_of

_WORDS: Final = {4: "ip", 6: "ipv6"}
TOLD_S: Final = 2.0
"""A daemon that has heard of a change, as of such a fault's end, has not told its peers at once."""
_AGAIN_MS: Final = 50
"""Nobody is told of that; so long nobody asks again."""


def look_reset(site: Site, fault: Fault, number: int) -> State:
    """The sessions that are meant; Failed when the daemon does not run."""
    site.pid(fault.on)
    routing, bgp = _bgp(site, fault)
    peers = _meant(fault, bgp)
    with _asked(site, fault, routing):
        return {"peers": [msgspec.to_builtins(peer) for peer in peers]}


def reset(site: Site, fault: Fault, state: State) -> None:
    """End the sessions, or have all routes told anew in them; returns when the daemon has heard."""
    routing, _ = _bgp(site, fault)
    is_soft = option(fault, "how") == "soft"
    with _asked(site, fault, routing) as daemon:
        for peer in typed.convert(state["peers"], list[Peer]):
            if isinstance(daemon, BirdSocket):
                verb = "reload" if is_soft else "restart"
                daemon.ask(f"{verb} {routing_bird.session_name(peer)}")
            else:
                daemon.ask(f"clear bgp {peer.address}{' soft' if is_soft else ''}")


def comes_back(site: Site, fault: Fault, state: State) -> None:
    """A session that was reset comes back by itself."""


def look_announced(site: Site, fault: Fault, number: int) -> State:
    """To whom the prefix is announced; Failed when it is to nobody."""
    routing, bgp = _bgp(site, fault)
    prefix = option(fault, "prefix")
    peers = [p for p in bgp.peers if p.family == (6 if ":" in prefix else 4)]
    is_own = any(network.prefix == prefix for network in bgp.networks)
    until = time.monotonic() + (TOLD_S if is_own and peers else 0)
    with _asked(site, fault, routing) as daemon:
        while True:
            told = [peer for peer in peers if _is_told(daemon, peer, prefix)]
            if told or time.monotonic() >= until:
                break
            select.poll().poll(_AGAIN_MS)
    if not told:
        message = f"{fault.on} announces {prefix} to nobody"
        hint = f"it announces of its own: {', '.join(n.prefix for n in bgp.networks) or 'nothing'}"
        raise Failed("fault", message, hint=hint)
    return {
        "name": f"hostlab-fault-{number}",
        "addresses": [peer.address for peer in told],
        "maps": [f"peer-{bgp.peers.index(peer) + 1}-out" for peer in told if _has_map(peer)],
    }


def _has_map(peer: Peer) -> bool:
    return not peer.given.is_open


def _is_told(daemon: BirdSocket | VtySocket, peer: Peer, prefix: str) -> bool:
    if isinstance(daemon, BirdSocket):
        name = routing_bird.session_name(peer)
        try:
            return bool(daemon.ask(f"show route {prefix} table bgp{peer.family} export {name}"))
        except Failed:
            # BIRD has an error for a prefix that it does not know.
            return False
    kind = f"ipv{peer.family} unicast"
    said = daemon.ask(f"show bgp {kind} neighbors {peer.address} advertised-routes json")
    routes = typed.decode(said or "{}", dict[str, Any]).get("advertisedRoutes", {})
    return prefix in routes


def withhold(site: Site, fault: Fault, state: State) -> None:
    """Announce the prefix no more."""
    routing, bgp = _bgp(site, fault)
    prefix = option(fault, "prefix")
    with _asked(site, fault, routing) as daemon:
        if isinstance(daemon, BirdSocket):
            path = _second(state)
            _write(site, fault, path, _without(site, fault, routing, prefix))
            daemon.ask(f'configure "{path}"')
        else:
            _tell(daemon, _route_map(bgp, state, prefix))


def announce(site: Site, fault: Fault, state: State) -> None:
    """Announce it again, if the daemon is the one that was told not to.

    One that an `apply` has changed, or done away with, has been told what is described.
    """
    routing = next((node.routing for node in site.lab.nodes if node.name == fault.on), None)
    if routing is not None and routing.bgp is not None:
        _announce(site, fault, state, routing, routing.bgp)
    if routing is None or routing.engine is Engine.BIRD:
        path = _second(state)

        def work() -> None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

        site.in_files(fault.on, work)


def _announce(site: Site, fault: Fault, state: State, routing: Routing, bgp: Bgp) -> None:
    with (
        contextlib.suppress(FileNotFoundError, ConnectionRefusedError),
        _socket(site, fault, routing) as daemon,
    ):
        if isinstance(daemon, BirdSocket):
            daemon.ask("configure")
        else:
            # A bgpd that was started anew does not know what is to be taken away.
            _tell(daemon, _no_route_map(bgp, state, option(fault, "prefix")), gone=True)


def _second(state: State) -> str:
    return f"{os.path.dirname(routing_bird.CONFIG)}/{state['name']}.conf"


def _without(site: Site, fault: Fault, routing: Routing, prefix: str) -> str:
    node = site.lab.node(fault.on)
    changed = with_withheld(routing, prefix)
    return text_of(routing_bird.render(node.name, node.loopbacks, changed))


def _write(site: Site, fault: Fault, path: str, text: str) -> None:
    def work() -> None:
        with open(path, "w") as file:
            file.write(text)

    site.in_files(fault.on, work)


def _route_map(bgp: Bgp, state: State, prefix: str) -> list[str]:
    """First of all routes that are given, this one is refused."""
    family = 6 if ":" in prefix else 4
    word, name = _WORDS[family], state["name"]
    lines = [f"{word} prefix-list {name} permit {prefix}"]
    for each in (*state["maps"], name):
        lines += [f"route-map {each} deny 1", f"match {word} address prefix-list {name}", "exit"]
    lines += [f"route-map {name} permit 2", "exit"]
    return [*lines, *_for_peers(bgp, state, family, "")]


def _no_route_map(bgp: Bgp, state: State, prefix: str) -> list[str]:
    family = 6 if ":" in prefix else 4
    word, name = _WORDS[family], state["name"]
    lines = _for_peers(bgp, state, family, "no ")
    lines += [f"no route-map {each} deny 1" for each in state["maps"]]
    return [*lines, f"no route-map {name}", f"no {word} prefix-list {name}"]


def _for_peers(bgp: Bgp, state: State, family: int, no: str) -> list[str]:
    """A peer whose routes pass as they are has no route map of its own."""
    open_peers = [p for p in bgp.peers if p.address in state["addresses"] and not _has_map(p)]
    lines = [f"router bgp {bgp.asn}", f"address-family ipv{family} unicast"]
    lines += [f"{no}neighbor {p.address} route-map {state['name']} out" for p in open_peers]
    return [*lines, "exit-address-family", "exit"]


def _tell(daemon: VtySocket, lines: Sequence[str], *, gone: bool = False) -> None:
    daemon.ask("configure terminal")
    for line in lines:
        try:
            daemon.ask(line)
        except Failed:
            if not gone:
                raise
    daemon.ask("end")
    # A changed route map is heeded five seconds later, unless it is asked for.
    daemon.ask("clear bgp * soft out")


def _bgp(site: Site, fault: Fault) -> tuple[Routing, Bgp]:
    routing = site.lab.node(fault.on).routing
    assert routing is not None, "faults.checked"
    assert routing.bgp is not None, "faults.checked"
    return routing, routing.bgp


def _meant(fault: Fault, bgp: Bgp) -> list[Peer]:
    wanted = option(fault, "peer")
    found = [p for p in bgp.peers if wanted in ("*", p.name, p.address)]
    if not found:
        known = ", ".join(dict.fromkeys(peer.name for peer in bgp.peers)) or "none"
        which = "" if wanted == "*" else f" {wanted!r}"
        message = f"{fault.on} has no BGP peer{which}"
        raise UsageError("fault-option", message, hint=f"peers: {known}")
    return found


@contextlib.contextmanager
def _asked(site: Site, fault: Fault, routing: Routing) -> Iterator[BirdSocket | VtySocket]:
    """The daemon; Failed when it does not run."""
    try:
        with _socket(site, fault, routing) as found:
            yield found
    except (FileNotFoundError, ConnectionRefusedError):
        name = "bird" if routing.engine is Engine.BIRD else "bgpd"
        message = f"{name} of node {fault.on} does not run"
        hint = f"`hostlab job start --node {fault.on} {name}`"
        raise Failed("job-idle", message, hint=hint) from None


@contextlib.contextmanager
def _socket(site: Site, fault: Fault, routing: Routing) -> Iterator[BirdSocket | VtySocket]:
    is_bird = routing.engine is Engine.BIRD
    path = routing_bird.SOCKET if is_bird else f"{routing_frr.RUN}/bgpd.vty"
    found = watching.connect(site.pid(fault.on), {"bgpd": path})["bgpd"]
    with contextlib.closing(found):
        yield BirdSocket(found) if is_bird else VtySocket("bgpd", found)
