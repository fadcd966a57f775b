"""Asking the kernel what becomes of a packet, by sending it: `ask`, and all that is built on it.

    with Prober(stage, "new") as prober:
        answers = prober.ask(packets)

A packet is accepted if and only if the last witness sees it (`witnesses.py`). What no rule ended
and no witness saw was lost. That is known without a clock: behind each batch goes a frame that is
sure to be seen, on the same processor, so in the same queue; everything before it has been told by
then.
"""

from __future__ import annotations

import errno
import os
import re
import select
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Final

from hostlab.errors import Failed, UsageError
from hostlab.firewall import frames, kernel, witnesses
from hostlab.firewall.answer import Answer
from hostlab.firewall.packet import Packet, Protocol, State
from hostlab.firewall.rule_index import Places, RuleIndex
from hostlab.firewall.stage import Stage
from hostlab.firewall.ways import Reader, Way
from hostlab.firewall.wires import Wires
from hostlab.linux import conntrack, nflog, nftrace
from hostlab.linux.libc import sched_getcpu
from hostlab.linux.nftrace import TraceMessage

SENTINEL_DEADLINE_S: Final = 30.0
"""Only a kernel that lost the frame, or a machine that stands still, comes to this."""
MESSAGES_AT_ONCE: Final = 1 << 20
_NOBODYS_PROTOCOL: Final = 253
"""For experiments, RFC 3692."""
_LISTING: Final = (
    "nft -a -t list ruleset; printf '\\f\\n'; iptables-nft-save 2>/dev/null; printf '\\f\\n'; "
    "ip6tables-nft-save 2>/dev/null; printf '\\f\\n'; iptables-legacy-save 2>/dev/null; "
    "printf '\\f\\n'; ip6tables-legacy-save 2>/dev/null"
)
_HOLDS: Final = re.compile(r"^-A |^:\S+ DROP", re.MULTILINE)
"""Something that legacy iptables may end a packet by: empty tables stay for good."""
_NAME: Final = re.compile(r'"?([^\s",{}]+)"?')
_LOST_ERRORS: Final = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL, errno.ENETDOWN}
)
"""What sendto(2) says of a packet without a way out: ip(7)."""


class Prober:
    """Sends packets through the ruleset of a stage's node; `with` puts the witnesses there.

    The ruleset may not be changed by anybody else meanwhile, but by `changed` afterwards.
    """

    def __init__(self, stage: Stage, node: str, *, places: Places | None = None) -> None:
        """`places` tell where rules were written: (family, table, chain, number, legacy)."""
        self._node = stage.nodes[node]
        self._hub = stage.hub
        self._places: Places = places or {}
        self.rules: RuleIndex
        """What the node holds."""
        self._wires: Wires
        self._reader: Reader
        self._is_legacy = False
        self._has_netdev = False
        self._has_connections = True
        self._batch = 0
        self._ways: dict[int, Way] = {}
        self._by_id: dict[int, Way] = {}
        self._only: Way | None = None
        """The way of a packet that is sent alone, whose traces cannot be another's."""
        self._is_alone = True
        """Nothing that was sent before is still on its way."""
        self._is_looped = False
        self._is_settled = True
        """Nothing that was sent may still be told of."""

    def __enter__(self) -> Prober:
        self._wires = Wires(self._node.pid, self._hub)
        try:
            self.changed()
        except BaseException:
            self._wires.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            removal = witnesses.removal(netdev=self._has_netdev)
            kernel.tool(self._node.execute, ("nft", "-f", "-"), removal)
        finally:
            self._wires.close()

    def changed(self, places: Places | None = None) -> None:
        """Look at the node's ruleset again, after it was changed."""
        if places is not None:
            self._places = places
        listing = kernel.tool(self._node.execute, ("/bin/sh", "-c", _LISTING)).stdout.decode()
        nft, saved4, saved6, legacy4, legacy6 = listing.split("\f\n")
        self._is_legacy = bool(_HOLDS.search(legacy4 + legacy6))
        self.rules = RuleIndex(nft, {"ip": saved4, "ip6": saved6}, {"ip": legacy4, "ip6": legacy6})
        ingress, egress = _devices("ingress", nft), _devices("egress", nft)
        self._has_netdev = self._has_netdev or bool(ingress or egress)
        text = witnesses.script(ingress=ingress, egress=egress, is_legacy=self._is_legacy)
        kernel.tool(self._node.execute, ("nft", "-f", "-"), text)
        if self._is_legacy:
            self._wires.hear_legacy()
        else:
            self._wires.ignore_legacy()
        names: Mapping[int, str] = self._wires.names
        self._reader = Reader(self.rules, names, self._places, is_legacy=self._is_legacy)
        self._has_connections = True

    def ask(self, packets: Iterable[Packet]) -> tuple[Answer, ...]:
        """What becomes of each packet, as if it were alone: no connection outlives its question.

        What rules themselves count or remember (limits, `recent`, sets that packets add to) does
        outlive it, in this order: packets of the same state are sent in the order given. Problem
        for a packet that cannot be sent at all.
        """
        asked = tuple(packets)
        if len(asked) > witnesses.NUMBERS:
            raise UsageError("packets", f"{len(asked)} packets are too many to ask of at once")
        self._wires.open_ports(each.interface for each in asked if each.interface)
        with _one_processor():
            if not self._is_settled:
                self._settle()
            self._ways = {number: Way() for number in range(len(asked))}
            self._is_settled = False
            for numbers in _rounds(asked):
                self._round(asked, numbers)
            self._forget()
            self._is_settled = True
        answer = self._reader.answer
        return tuple(answer(packet, self._ways[n]) for n, packet in enumerate(asked))

    def _round(self, asked: Sequence[Packet], numbers: Sequence[int]) -> None:
        """Send packets whose connections have nothing to do with each other."""
        self._forget()
        self._by_id.clear()
        made: set[conntrack.Tuple] = set()
        for number in numbers:
            packet = asked[number]
            if packet.state in (State.ESTABLISHED, State.RELATED):
                self._connect(packet, made)
            is_own = packet.interface in (None, "lo")
            if is_own:
                self._begin_alone()
            self._is_alone = is_own
            self._only = self._ways[number] if is_own or self._is_legacy else None
            if is_own:
                self._send_own(packet, number)
            else:
                self._send_frame(packet, number)
            if self._is_legacy:
                self._wait()
            else:
                self._drain()
            if self._is_looped:
                # It came in again by lo, or was sent: conntrack has kept it.
                self._is_looped, self._has_connections = False, True
                self._wait()
                if packet.state is State.NEW:
                    self._forget()
        self._wait()
        self._is_alone = True

    def _begin_alone(self) -> None:
        """Before a packet of the host's own: whatever is told from now on is of this one.

        What it sends to all is copied, and a copy may have the identity that a packet had before.
        """
        if not self._is_alone:
            self._wait()
        self._by_id.clear()

    def _send_frame(self, packet: Packet, number: int) -> None:
        assert packet.interface is not None
        frame = frames.frame(
            packet,
            source_mac=witnesses.FRAME_PREFIX + number.to_bytes(3),
            destination_mac=self._wires.destination_mac(packet.interface, packet.destination),
        )
        try:
            self._wires.port(packet.interface).send(frame)
        except OSError as error:
            if error.errno not in _LOST_ERRORS:
                raise UsageError("send", f"the packet cannot be sent: {error.strerror}") from error

    def _send_own(self, packet: Packet, number: int) -> None:
        uid = packet.uid or 0
        raw = self._wires.raw(is_v6=":" in packet.source, uid=uid)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, witnesses.MARK | number)
        try:
            raw.sendto(frames.datagram(packet), (packet.destination, 0))
        except PermissionError:
            pass  # A rule ended it, or a witness: the trace says which.
        except OSError as error:
            if error.errno not in _LOST_ERRORS:
                raise UsageError("send", f"the packet cannot be sent: {error.strerror}") from error

    def _connect(self, packet: Packet, made: set[conntrack.Tuple]) -> None:
        """Tell conntrack of the connection that the packet is of."""
        about = frames.embedded(packet) if frames.is_icmp_error(packet) else packet
        original = tuple_of(about)
        if original.is_answer:
            original = original.opposite()
        if original in made:
            return
        made.add(original)
        seen = conntrack.IPS_SEEN_REPLY | conntrack.IPS_ASSURED
        requests = [conntrack.create(original, status=seen)]
        if packet.state is State.RELATED and about is packet:
            master = _master_of(original)
            requests = [
                conntrack.create(master, status=seen),
                conntrack.create(original, status=0, master=master),
            ]
        self._has_connections = True
        try:
            self._wires.conntrack.try_each(requests, unless=(errno.EEXIST,))
        except OSError as error:
            raise Failed("conntrack", f"no connection could be made: {error.strerror}") from error

    def _forget(self) -> None:
        if self._has_connections:
            self._wires.conntrack.request([conntrack.flush()])
            self._has_connections = False

    def _wait(self) -> None:
        """Until everything that was sent has been told."""
        self._batch = (self._batch + 1) % witnesses.NUMBERS
        self._wires.send_sentinel(self._batch)
        trace = self._wires.trace
        poll = select.poll()
        poll.register(trace, select.POLLIN)
        while not self._drain():
            if not poll.poll(SENTINEL_DEADLINE_S * 1000):
                raise Failed("trace", "the kernel never told of the frame behind the packets")

    def _settle(self) -> None:
        """Forget what may still be told of a question that ended early."""
        self._ways, self._only, self._is_looped = {}, None, False
        heard = [self._wires.trace]
        heard += [self._wires.nflog.socket] if self._wires.nflog is not None else []
        for each in heard:
            for _ in range(MESSAGES_AT_ONCE):
                try:
                    each.recv(nftrace.RECEIVE_BYTES, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    break
                except OSError as error:
                    # It hears nothing more before all that there was room for has been read.
                    if error.errno != errno.ENOBUFS:
                        raise
        self._wait()

    def _drain(self) -> bool:
        """Take what has been told; whether the last frame was among it."""
        receive, is_done = self._wires.trace.recv, False
        for _ in range(MESSAGES_AT_ONCE):
            try:
                data = receive(nftrace.RECEIVE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError as error:
                raise self._overrun(error) from error
            for told in nftrace.decode(data):
                is_done = self._take(told) or is_done
        if self._wires.nflog is not None:
            self._drain_legacy(self._wires.nflog.socket)
        return is_done

    def _drain_legacy(self, heard: socket.socket) -> None:
        for _ in range(MESSAGES_AT_ONCE):
            try:
                data = heard.recv(nftrace.RECEIVE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                raise self._overrun(error) from error
            if self._only is not None:
                self._only.logged += nflog.decode(data)

    def _overrun(self, error: OSError) -> Failed:
        if error.errno != errno.ENOBUFS:
            return Failed("trace", f"the trace cannot be read: {error.strerror}")
        hint = "net.core.rmem_max bounds how much the kernel may tell of one packet"
        return Failed("trace", "a packet passes more rules than there is room to tell", hint=hint)

    def _take(self, told: TraceMessage) -> bool:
        """Put a message to its packet; True for that of the last frame."""
        if told.table == witnesses.TABLE and told.ll_header[6:9] == witnesses.SENTINEL:
            return int.from_bytes(told.ll_header[9:12]) == self._batch
        way = self._by_id.get(told.id)
        if told.table == witnesses.TABLE and told.chain.endswith(witnesses.BEGIN):
            number = _number(told)
            if number is not None and number in self._ways:
                way = self._by_id[told.id] = self._ways[number]
        if way is None:
            # NAT may give a packet a new identity, and its way in by lo does.
            way = self._only
        if way is not None:
            way.traced.append(told)
            if told.table == witnesses.TABLE and told.chain == _LOOPED:
                self._is_looped |= told.verdict == nftrace.NF_ACCEPT
        return False


_LOOPED: Final = f"postrouting_{witnesses.END}"


def _number(told: TraceMessage) -> int | None:
    """Of the packet whose first message this is."""
    if told.ll_header[6:9] == witnesses.FRAME_PREFIX:
        return int.from_bytes(told.ll_header[9:12])
    if told.mark & witnesses.MARK_MASK == witnesses.MARK:
        return told.mark & ~witnesses.MARK_MASK
    return None


def tuple_of(packet: Packet) -> conntrack.Tuple:
    """How conntrack tells the packet's connection."""
    source, destination = frames.packed(packet.source), frames.packed(packet.destination)
    number = frames.protocol_number(packet.protocol, is_v6=len(source) == 16)
    ports = packet.source_port, packet.destination_port
    if packet.protocol is Protocol.ICMP:
        ports = frames.ECHO_ID, frames.icmp_type(packet) << 8 | packet.icmp_code
    return conntrack.Tuple(source, destination, number, *ports)


def _master_of(related: conntrack.Tuple) -> conntrack.Tuple:
    """A connection between the same ends that the kernel can have expected another of."""
    return conntrack.Tuple(related.source, related.destination, _NOBODYS_PROTOCOL)


def _rounds(asked: Sequence[Packet]) -> Iterator[list[int]]:
    """The packets' numbers, so that no connection of a round is another packet's of it.

    The kernel forgets a new packet's connection with the packet. Those that have one first are
    sent after, together where none is another's, or its answer, in another state.
    """
    keeping = (State.ESTABLISHED, State.RELATED)
    fresh = [number for number, packet in enumerate(asked) if packet.state not in keeping]
    if fresh:
        yield fresh
    taken: dict[conntrack.Tuple, State] = {}
    this_round: list[int] = []
    for number, packet in enumerate(asked):
        if packet.state not in keeping:
            continue
        found = tuple_of(packet)
        other = found.opposite()
        if taken.get(found, packet.state) is not packet.state or other in taken:
            yield this_round
            this_round, taken = [], {}
        this_round.append(number)
        taken[found] = packet.state
    if this_round:
        yield this_round


def _devices(hook: str, listed: str) -> tuple[str, ...]:
    """Interfaces that have chains at this hook."""
    found = re.findall(rf"hook {hook} devices? (?:= )?(\{{[^}}]*\}}|\S+)", listed)
    return tuple(dict.fromkeys(name for each in found for name in _NAME.findall(each)))


@contextmanager
def _one_processor() -> Iterator[None]:
    """Keep this thread where it is: what it sends stays in one queue, so in order."""
    before = os.sched_getaffinity(0)
    # The one that it is on: moving it would wait for others there.
    os.sched_setaffinity(0, {sched_getcpu()})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
