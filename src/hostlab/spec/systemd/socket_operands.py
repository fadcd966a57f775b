"""What a `.socket` unit says, as operands: each line of it one, under the unit's name.

`x.socket` with `ListenStream=80` listens to `socket NAME=x.socket PROTO=inet6 PORT=80` while it
runs, and `x.service` starts on `socket NAME=x.socket` and is given all of them, in their order.
With `Accept=yes` it is the job of the template that starts, an instance a connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hostlab.errors import SpecError
from hostlab.spec import sockets
from hostlab.spec.job import Match
from hostlab.spec.sockets import SocketType
from hostlab.spec.source import Wrong
from hostlab.spec.systemd.kinds import Listen, Listening, SocketUnit

CONNECTION: Final = "$CONNECTION"
"""The instance of a job that a connection starts."""
_TYPES: Final = {
    Listening.STREAM: SocketType.STREAM,
    Listening.DATAGRAM: SocketType.DGRAM,
    Listening.SEQUENTIAL_PACKET: SocketType.SEQPACKET,
}
_UNSUPPORTED: Final = frozenset({Listening.MESSAGE_QUEUE, Listening.USB_FUNCTION})


def socket_operands(
    name: str, unit: SocketUnit
) -> tuple[tuple[Match, ...], tuple[tuple[Listen, Wrong], ...]]:
    """The operands of a socket unit of this name, and what is wrong with the lines left out."""
    found: list[Match] = []
    wrong: list[tuple[Listen, Wrong]] = []
    for order, listen in enumerate(unit.listen):
        try:
            words = (f"NAME={name}", *_address(listen, unit), *_options(unit, listen))
            if len(unit.listen) > 1:
                words += (f"ORDER={order}",)
            sockets.parse(words)
        except Wrong as error:
            wrong.append((listen, error))
        except SpecError as error:
            wrong.append((listen, Wrong(error.message, error.hint)))
        else:
            found.append(Match(sockets.EVENT, words))
    return tuple(found), tuple(wrong)


def accepting(match: Match, *, is_inetd: bool) -> Match:
    """The operand for a service that has its connection as standard input, or as descriptor 3."""
    words = tuple(word for word in match.arguments if not word.startswith("ACCEPT="))
    return Match(match.name, (*words, "ACCEPT=inetd" if is_inetd else "ACCEPT=1"))


def _address(listen: Listen, unit: SocketUnit) -> tuple[str, ...]:
    kind, text = listen.kind, listen.address
    if kind in _UNSUPPORTED:
        raise Wrong(f"Listen{kind}= is not made here", "sockets, FIFOs, netlink and files are")
    if kind is Listening.FIFO:
        return ("PROTO=fifo", f"SOCKET_PATH={text}")
    if kind is Listening.SPECIAL:
        return ("PROTO=special", f"SOCKET_PATH={text}")
    if kind is Listening.NETLINK:
        family, *groups = text.split()
        return ("PROTO=netlink", f"FAMILY={family}", *(f"GROUPS={each}" for each in groups[:1]))
    words = sockets.address_words(text, _TYPES[kind])
    if words[0] != "PROTO=inet6":
        return words
    if unit.ipv6_only == "ipv6-only":
        return (*words, "IPV6ONLY=1")
    return (*words, "IPV6ONLY=0") if text.isdecimal() and unit.ipv6_only == "both" else words


def _options(unit: SocketUnit, listen: Listen) -> Iterator[str]:
    """What of it is not as an operand has it without a word."""
    is_file = listen.kind is not Listening.SPECIAL and listen.address.startswith("/")
    for word, value, default in (
        ("FDNAME", unit.name, ""),
        ("BACKLOG", unit.backlog, sockets.DEFAULT_BACKLOG),
        ("DEVICE", unit.bind_to_device, None),
        ("CONGESTION", unit.tcp_congestion, None),
        ("RCVBUF", unit.receive_buffer_bytes, None),
        ("SNDBUF", unit.send_buffer_bytes, None),
    ):
        if value != default:
            yield f"{word}={value}"
    for word, is_set in (
        ("FREEBIND", unit.free_bind),
        ("TRANSPARENT", unit.transparent),
        ("BROADCAST", unit.broadcast),
        ("REUSEPORT", unit.reuse_port),
        ("KEEPALIVE", unit.keep_alive),
        ("NODELAY", unit.no_delay),
        ("PASSCRED", unit.pass_credentials),
        ("PKTINFO", unit.pass_packet_info),
        ("FLUSH", unit.flush_pending),
        ("WRITABLE", unit.writable),
        ("REMOVE", unit.remove_on_stop),
    ):
        if is_set:
            yield f"{word}=1"
    for word, seconds in (
        ("DEFER", unit.defer_accept_s),
        ("KEEPTIME", unit.keep_alive_time_s),
        ("KEEPINTERVAL", unit.keep_alive_interval_s),
    ):
        if seconds:
            yield f"{word}={_seconds(seconds)}"
    if unit.keep_alive_probes:
        yield f"KEEPPROBES={unit.keep_alive_probes}"
    if is_file:
        yield from _file(unit)
    if unit.accept:
        yield "ACCEPT=1"
        yield f"MAXCONN={unit.max_connections}"
        if unit.max_connections_per_source:
            yield f"PERSOURCE={unit.max_connections_per_source}"
    burst = unit.trigger_limit_burst
    if burst is None:
        burst = 200 if unit.accept else 20
    yield f"LIMIT={burst}/{_seconds(unit.trigger_limit_interval_s)}"


def _file(unit: SocketUnit) -> Iterator[str]:
    yield f"MODE={unit.mode:04o}"
    yield f"DIRMODE={unit.directory_mode:04o}"
    if unit.user is not None:
        yield f"OWNER={unit.user}"
    if unit.group is not None:
        yield f"GROUP={unit.group}"
    if unit.symlinks:
        yield f"SYMLINKS={':'.join(unit.symlinks)}"


def _seconds(seconds: float) -> str:
    return f"{f'{seconds:.3f}'.rstrip('0').rstrip('.')}s"
