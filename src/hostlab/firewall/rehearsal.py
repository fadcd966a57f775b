"""A change carried out in a stage first, and packets sent through what the machine would hold then.

The stage gets what the machine holds now, other people's part included, and then the very steps of
the transaction; so what is asked of it is asked of the whole, not of our part alone.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence
from ipaddress import IPv6Address, ip_address
from typing import Final

import msgspec

from hostlab.errors import Failed, Problem
from hostlab.firewall import beside, kernel, target_of
from hostlab.firewall.answer import Answer, Verdict
from hostlab.firewall.packet import Packet, Protocol
from hostlab.firewall.prober import Prober
from hostlab.firewall.probing import told_step
from hostlab.firewall.ruleset import Ruleset
from hostlab.firewall.stage import Stage
from hostlab.firewall.target import Target
from hostlab.firewall.transaction import ToolStep
from hostlab.linux import conntrack
from hostlab.linux.netlink import Netlink

MAX_FLOWS: Final = 10_000
"""More of them that differ are not asked about."""
_NODE: Final = "stage"
_PROTOCOLS: Final = {6: Protocol.TCP, 17: Protocol.UDP}


class Rehearsal(msgspec.Struct, frozen=True):
    """A stage in which the change has been made."""

    target: Target
    prober: Prober


@contextlib.contextmanager
def rehearsed(
    present: Ruleset, steps: Sequence[ToolStep], operations: Sequence[beside.Operation] = ()
) -> Iterator[Rehearsal]:
    """Make the change in a stage that has this machine's network; Failed where it cannot be."""
    target = target_of.this_machine()
    with Stage(target, (_NODE,)) as stage:
        node = stage.nodes[_NODE]
        node.load(present)
        for step in steps:
            kernel.tool(node.tool, step.argv, step.text)
        for each in operations:
            if each.kind is not beside.Kind.MAIN:
                # A stage has not every interface's kind; what it cannot have changes no verdict.
                node.execute(each.do)
        with Prober(stage, _NODE) as prober:
            yield Rehearsal(target, prober)


def would_lock_out(rehearsal: Rehearsal, connection: str, run: kernel.Run) -> str:
    """Why a new connection from where one sits (SSH_CONNECTION) would not come in; or nothing."""
    packet = new_connection(connection, run)
    if packet is None:
        return ""
    (answer,) = rehearsal.prober.ask((packet,))
    if answer.verdict is Verdict.ACCEPT:
        return ""
    return (
        f"a new connection from {packet.source} to port {packet.destination_port} of"
        f" {packet.destination} would not come in: {why(answer)}"
    )


def why(answer: Answer) -> str:
    """What became of a packet, and by which rule; of a policy that it is one."""
    step = answer.decided_by
    if step is None:
        return str(answer.verdict)
    if not step.rule:
        where = f"{step.family} {step.table} {step.chain}"
        return f"no rule lets it in, and {where} drops by default"
    return f"{answer.verdict} by {told_step(step)}"


def new_connection(connection: str, run: kernel.Run) -> Packet | None:
    """The first packet of another connection like this one; None where there is none."""
    words = connection.split()
    if len(words) != 4:
        return None
    client, server = _address(words[0]), _address(words[2])
    scope = words[0].partition("%")[2]
    return Packet(
        protocol=Protocol.TCP,
        source=client,
        source_port=int(words[1]),
        destination=server,
        destination_port=int(words[3]),
        interface=scope or _interface(client, run),
    )


def _address(text: str) -> str:
    found = ip_address(text.partition("%")[0])
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(found)


def _interface(source: str, run: kernel.Run) -> str:
    """By which interface packets of an address come: by which one those to it go."""
    family = "-6" if ":" in source else "-4"
    words = kernel.tool(run, ("ip", family, "route", "get", source)).stdout.decode().split()
    if "dev" not in words[:-1]:
        raise Failed("route", f"there is no way to {source}")
    return words[words.index("dev") + 1]


class Flow(msgspec.Struct, frozen=True):
    """A connection that there is, and what would become of it if it began now."""

    packet: Packet
    why: str


def no_longer_allowed(rehearsal: Rehearsal, run: kernel.Run) -> tuple[Flow, ...]:
    """Connections of this machine that go on, and that the new ruleset would not let begin."""
    packets = tuple(_flows(rehearsal.target, run))[:MAX_FLOWS]
    answers = rehearsal.prober.ask(packets)
    return tuple(
        Flow(packet, why(answer))
        for packet, answer in zip(packets, answers, strict=True)
        if answer.verdict is not Verdict.ACCEPT
    )


def _flows(target: Target, run: kernel.Run) -> Iterator[Packet]:
    """The first packet of each connection, those that differ by the source's port only once."""
    own = {text.partition("/")[0] for each in target.interfaces for text in each.addresses}
    interfaces: dict[str, str | None] = dict.fromkeys(own)
    seen = set()
    with Netlink(conntrack.NETLINK_NETFILTER) as netlink:
        found = list(conntrack.entries(netlink))
    for entry in found:
        original = entry.original
        protocol = _PROTOCOLS.get(original.protocol)
        source, destination = (_text(each) for each in (original.source, original.destination))
        key = (protocol, source, destination, original.destination_port)
        if protocol is None or ip_address(source).is_loopback or key in seen:
            continue
        seen.add(key)
        if source not in interfaces:
            try:
                interfaces[source] = _interface(source, run)
            except Problem:
                continue
        yield Packet(
            protocol=protocol,
            source=source,
            source_port=original.source_port,
            destination=destination,
            destination_port=original.destination_port,
            interface=interfaces[source],
        )


def _text(address: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)
