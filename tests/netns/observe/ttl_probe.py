"""The hops that packets really take: UDP with a growing TTL, answered by ICMP, as traceroute does.

It runs inside a node as `python3 -c`, so the program is a text here. Nothing is lost in these labs,
so an answer that does not come is a failure after a minute; a probe is sent again each second for
kernels that count how many errors they send.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from hostlab.api import Lab
from hostlab.observe.path import Hop, Outcome, Path
from hostlab.observe.routing import Network

MOST_HOPS = 40
DEADLINE_S = 60
_PROGRAM = """
import contextlib, ipaddress, json, select, socket, struct, sys, time

def hops_to(target, source, most, deadline_s):
    is_v4 = ":" not in target
    family = socket.AF_INET if is_v4 else socket.AF_INET6
    level, receive_errors, ttl_option, exceeded = (0, 11, 2, 11) if is_v4 else (41, 25, 16, 3)
    hops = []
    # One socket for all: of several next hops a kernel takes the same for each packet of a flow.
    with socket.socket(family, socket.SOCK_DGRAM) as udp:
        udp.setsockopt(level, receive_errors, 1)
        if source:
            udp.bind((source, 0))
        try:
            udp.connect((target, 33434))
        except OSError as error:
            return hops, f"refused {error.errno}"
        poll = select.poll()
        poll.register(udp, 0)
        for ttl in range(1, most + 1):
            udp.setsockopt(level, ttl_option, ttl)
            until, answer = time.monotonic() + deadline_s, None
            while answer is None:
                assert time.monotonic() < until, f"no answer to hop {ttl} of {target}: {hops}"
                # What an earlier probe was answered may be told here once more.
                with contextlib.suppress(OSError):
                    udp.send(b"%d" % ttl)
                while answer is None and poll.poll(1000):
                    sent, ancillary, _, _ = udp.recvmsg(512, 512, socket.MSG_ERRQUEUE)
                    if sent == b"%d" % ttl:
                        answer = next(d for *at, d in ancillary if at == [level, receive_errors])
            number, origin, kind, code = struct.unpack_from("=IBBB", answer)
            if origin == 1:
                return hops, f"refused {number}"
            hops.append(str(ipaddress.ip_address(answer[20:24] if is_v4 else answer[24:40])))
            if kind != exceeded:
                return hops, f"{kind}.{code}"
    return hops, "too far"

most, deadline_s, wanted = json.loads(sys.argv[1])
print(json.dumps([hops_to(target, source, most, deadline_s) for target, source in wanted]))
"""
ARRIVED = {4: "3.3", 6: "1.4"}
"""ICMP says that nobody listens on the port: the packet is there."""


def probed(lab: Lab, start: str, target: str, source: str | None) -> tuple[list[str], str]:
    """The nodes that packets pass after `start`, the last one included, and the end they meet."""
    ((hops, end),) = all_probed(lab, start, [(target, source)], addresses(lab))
    return hops, end


def all_probed(
    lab: Lab, start: str, wanted: list[tuple[str, str | None]], owners: dict[str, str]
) -> list[tuple[list[str], str]]:
    """The same to several targets, each with the source that packets come from."""
    argument = json.dumps([MOST_HOPS, DEADLINE_S, wanted])
    argv = ("python3", "-c", _PROGRAM, argument)
    done = lab[start].execute(argv, timeout_s=2 * DEADLINE_S)
    assert done.status == 0, done.stderr.decode()
    return [([owners[each] for each in hops], end) for hops, end in json.loads(done.stdout)]


def addresses(lab: Lab) -> dict[str, str]:
    """Every address of the lab's kernels -> its node."""
    found = {}
    for node in lab:
        with Network(node.pid) as network:
            for _, address in network.addresses:
                found[address.partition("/")[0]] = node.name
    return found


def branches(hop: Hop) -> list[list[str]]:
    """Every way through a tree, as the nodes after its start; only those that get there."""
    drawn = {(each.node, each.arrives_on): each for each in _all(hop)}

    def ways(at: Hop) -> list[list[str]]:
        at = drawn[at.node, at.arrives_on]
        if at.outcome is Outcome.ARRIVED:
            return [[]]
        return [[way.hop.node, *rest] for way in at.ways for rest in ways(way.hop)]

    return ways(hop)


def _all(hop: Hop) -> Iterator[Hop]:
    """Every hop of a tree that says what becomes of the packet there."""
    if hop.outcome not in (Outcome.SEEN, Outcome.LOOP):
        yield hop
    for way in hop.ways:
        yield from _all(way.hop)


def assert_probes_agree(lab: Lab, start: str, found: Path) -> None:
    """A real packet takes one of the ways that were told, and arrives."""
    hops, end = probed(lab, start, found.destination, found.source)
    assert end == ARRIVED[found.family], (found, hops, end)
    assert hops in branches(found.start), (found, hops)
