"""A socket that is listened on for a job: the words of an operand `socket …`, and what they mean.

    start on socket PROTO=inet PORT=80 ADDR=127.0.0.1
    start on socket PROTO=unix SOCKET_PATH=/run/web.sock MODE=0660 OWNER=web
    start on socket NAME=web PROTO=inet6 PORT=80 or socket NAME=web PROTO=inet6 PORT=443

PROTO, PORT, ADDR and SOCKET_PATH are Upstart's (socket-event(7)), whose bridge took PATH for
SOCKET_PATH by mistake; both are taken here. The other words are what systemd.socket(5) says, so a
`.socket` unit becomes operands of this kind and nothing else.

An operand with nothing but a NAME listens to a socket that another job says.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from functools import partial
from typing import Any, Final

import msgspec

from hostlab.errors import SpecError
from hostlab.spec import units
from hostlab.spec.job import Job, Match
from hostlab.spec.source import Wrong, quoted

EVENT: Final = "socket"
CLOSED: Final = "socket-closed"
"""A connection has ended."""
NUMBER: Final = "CONNECTION"
"""The number of a connection, which is an instance's name unless its job says another."""
UNNAMED: Final = "unknown"
"""What LISTEN_FDNAMES calls a socket without a name (sd_listen_fds_with_names(3))."""
DEFAULT_BACKLOG: Final = 4096
DEFAULT_CONNECTIONS: Final = 64
"""Of `ACCEPT` at the same time."""
MAX_NUMBER: Final = 2**31 - 1
_VSOCK: Final = re.compile(r"vsock(?:-(stream|dgram|seqpacket))?:([0-9]*):([0-9]+)")
_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]+)(%\S+)?")
MAX_UNIX_PATH_BYTES: Final = 107
"""`sun_path` is 108 bytes with its end (unix(7))."""


class Proto(StrEnum):
    """What kind of address a socket has; the first three are Upstart's words."""

    INET = "inet"
    INET6 = "inet6"
    UNIX = "unix"
    VSOCK = "vsock"
    PACKET = "packet"
    NETLINK = "netlink"
    FIFO = "fifo"
    SPECIAL = "special"
    """A file that can be waited for: a character device, a file below /proc or /sys."""


class SocketType(StrEnum):
    """What passes through a socket."""

    STREAM = "stream"
    DGRAM = "dgram"
    SEQPACKET = "seqpacket"
    RAW = "raw"


class Accept(StrEnum):
    """Who accepts a connection."""

    NO = "no"
    """The job: it is given the listening socket."""
    YES = "yes"
    """An instance a connection is given it as descriptor 3."""
    INETD = "inetd"
    """An instance a connection has it as standard input and output."""


class Rate(msgspec.Struct, frozen=True):
    """So often within this time."""

    burst: int
    interval_s: float


class ListeningSocket(msgspec.Struct, frozen=True, kw_only=True):
    """What an operand says; the fields are its words."""

    proto: Proto
    type: SocketType = SocketType.STREAM
    addr: str = ""
    port: int = 0
    path: str = ""
    """Of a Unix socket (`@` before the name of an abstract one), a FIFO or another file."""
    cid: int | None = None
    """The context id of a vsock; None is any."""
    family: str = ""
    """Of netlink: `route`, `kobject-uevent`, … or its number."""
    netlink_groups: int = 0
    ethertype: int = 3
    """ETH_P_ALL: of packet sockets."""
    name: str = ""
    fd_name: str = ""
    order: int = 0
    accept: Accept = Accept.NO
    backlog: int = DEFAULT_BACKLOG
    mode: int = 0o666
    directory_mode: int = 0o755
    owner: str | None = None
    group: str | None = None
    free_bind: bool = False
    transparent: bool = False
    broadcast: bool = False
    reuse_port: bool = False
    v6_only: bool | None = None
    """None is the machine's own way (net.ipv6.bindv6only)."""
    device: str = ""
    keep_alive: bool = False
    keep_alive_time_s: float = 0.0
    """0 is the machine's own, of these three."""
    keep_alive_interval_s: float = 0.0
    keep_alive_probes: int = 0
    no_delay: bool = False
    defer_accept_s: float = 0.0
    receive_buffer_bytes: int | None = None
    send_buffer_bytes: int | None = None
    pass_credentials: bool = False
    pass_packet_info: bool = False
    congestion: str = ""
    symlinks: tuple[str, ...] = ()
    remove: bool = False
    """Whether its file and symlinks go when nobody listens any more."""
    flush: bool = False
    """Whether what waits when the job has ended is thrown away."""
    writable: bool = False
    max_connections: int = DEFAULT_CONNECTIONS
    max_per_source: int = 0
    """0 is no limit."""
    limit: Rate | None = None
    """How often it may start a job; None is 20 in 2 s, with `accept` 200."""
    idle_s: float | None = None
    """The job is stopped when it has had no connection for so long."""

    @property
    def rate(self) -> Rate:
        """How often it may start a job."""
        default = Rate(20, 2.0) if self.accept is Accept.NO else Rate(200, 2.0)
        return self.limit or default

    @property
    def has_connections(self) -> bool:
        """Whether clients connect to it, and somebody accepts."""
        return self.type in (SocketType.STREAM, SocketType.SEQPACKET) and self.proto in (
            Proto.INET, Proto.INET6, Proto.UNIX, Proto.VSOCK)  # fmt: skip

    @property
    def address(self) -> tuple[str, ...]:
        """What no two sockets can have at the same time."""
        return (self.proto, self.type, self.addr, str(self.port), self.path, str(self.cid),
                self.family, str(self.netlink_groups), self.device)  # fmt: skip

    def __str__(self) -> str:
        if self.path:
            return self.path
        host = f"[{self.addr}]" if ":" in self.addr else self.addr
        return f"{self.proto} {host}:{self.port}" if host or self.port else self.proto.value


def _flag(word: str) -> bool:
    return word == "1" or (word != "0" and units.flag(word))


def _word(kind: type[StrEnum], word: str) -> StrEnum:
    try:
        return kind(word)
    except ValueError:
        words = [each.value for each in kind]
        close = difflib.get_close_matches(word, words, n=1)
        hint = f"did you mean `{close[0]}`?" if close else f"one of {', '.join(words)}"
        raise Wrong(f"{quoted(word)} is not among them", hint) from None


def _accept(word: str) -> Accept:
    return Accept(word) if word == Accept.INETD else Accept.YES if _flag(word) else Accept.NO


def _rate(word: str) -> Rate:
    burst, sign, interval = word.partition("/")
    if not sign:
        raise Wrong(f"{quoted(word)} is no limit", "so often in such a time: `20/2s`")
    return Rate(_number(burst), units.duration(interval))


def _mode(word: str) -> int:
    return units.mode(word)


def _path(word: str) -> str:
    if not word.startswith(("/", "@")) or len(word) < 2:
        raise Wrong(f"{quoted(word)} is no absolute path", "`/run/x.sock`, or `@x` without a file")
    if len(word.encode(errors="surrogateescape")) > MAX_UNIX_PATH_BYTES:
        raise Wrong(f"this path is longer than {MAX_UNIX_PATH_BYTES} bytes")
    return units.text(word)


def _address(version: int, word: str) -> str:
    host, sign, scope = word.partition("%")
    found = units.address(host)
    if found.version != version:
        kind = "inet" if found.version == 4 else "inet6"
        raise Wrong(f"{quoted(word)} is no address of this PROTO", f"did you mean `PROTO={kind}`?")
    return f"{found}{sign}{scope}"


_number = partial(units.between, 0, MAX_NUMBER)
_port = partial(units.between, 0, 65535)
_WORDS: Final[dict[str, tuple[str, Callable[[str], Any]]]] = {
    "PROTO": ("proto", partial(_word, Proto)),
    "TYPE": ("type", partial(_word, SocketType)),
    "ADDR": ("addr", units.text),
    "PORT": ("port", units.text),
    "SOCKET_PATH": ("path", _path),
    "CID": ("cid", partial(units.between, 0, 2**32 - 1)),
    "FAMILY": ("family", units.text),
    "GROUPS": ("netlink_groups", _number),
    "ETHERTYPE": ("ethertype", lambda word: int(word, 0)),
    "NAME": ("name", units.text),
    "FDNAME": ("fd_name", units.text),
    "ORDER": ("order", _number),
    "ACCEPT": ("accept", _accept),
    "BACKLOG": ("backlog", _number),
    "MODE": ("mode", _mode),
    "DIRMODE": ("directory_mode", _mode),
    "OWNER": ("owner", units.text),
    "GROUP": ("group", units.text),
    "FREEBIND": ("free_bind", _flag),
    "TRANSPARENT": ("transparent", _flag),
    "BROADCAST": ("broadcast", _flag),
    "REUSEPORT": ("reuse_port", _flag),
    "IPV6ONLY": ("v6_only", _flag),
    "DEVICE": ("device", units.text),
    "KEEPALIVE": ("keep_alive", _flag),
    "KEEPTIME": ("keep_alive_time_s", units.duration),
    "KEEPINTERVAL": ("keep_alive_interval_s", units.duration),
    "KEEPPROBES": ("keep_alive_probes", _number),
    "NODELAY": ("no_delay", _flag),
    "DEFER": ("defer_accept_s", units.duration),
    "RCVBUF": ("receive_buffer_bytes", units.size),
    "SNDBUF": ("send_buffer_bytes", units.size),
    "PASSCRED": ("pass_credentials", _flag),
    "PKTINFO": ("pass_packet_info", _flag),
    "CONGESTION": ("congestion", units.text),
    "SYMLINKS": ("symlinks", lambda word: tuple(word.split(":"))),
    "REMOVE": ("remove", _flag),
    "FLUSH": ("flush", _flag),
    "WRITABLE": ("writable", _flag),
    "MAXCONN": ("max_connections", _number),
    "PERSOURCE": ("max_per_source", _number),
    "LIMIT": ("limit", _rate),
    "IDLE": ("idle_s", units.duration),
}
"""Each word, the field that it is, and how its value is read."""
KNOWN: Final = tuple(_WORDS)
_WHERE: Final = ("PROTO", "PORT", "SOCKET_PATH", "PATH")
_EVENT_WORDS: Final = ("PROTO", "PORT", "ADDR", "SOCKET_PATH", "TYPE", "CID", "FAMILY")
"""What a socket's event says of it; a job's own variables may be called as the others."""


def is_socket(match: Match) -> bool:
    """Whether an operand is about sockets."""
    return match.name == EVENT


def says_where(match: Match) -> bool:
    """Whether an operand is a socket of its own, and not a listener to another's."""
    return match.name == EVENT and not {_key(word) for word in match.arguments}.isdisjoint(_WHERE)


def name_of(match: Match) -> str:
    """What the event of an operand's socket is known by: its NAME, else its own words."""
    return _value(match, "NAME") or " ".join(match.arguments)


def pattern(match: Match) -> tuple[str, ...]:
    """The arguments by which an operand is compared with an event, as they stand."""
    return (f"NAME={name_of(match)}",) if says_where(match) else match.arguments


def event(match: Match) -> tuple[tuple[str, str], ...]:
    """The variables of the event of an operand's socket, in Upstart's order."""
    said = {_key(word): word.partition("=")[2] for word in match.arguments}
    if said.get("PROTO") in (Proto.INET, Proto.INET6):
        said.setdefault("ADDR", _ANY[Proto(said["PROTO"])])
    found = [(key, said[key]) for key in _EVENT_WORDS if key in said]
    return (*found, ("NAME", name_of(match)))


def closed(job: Job, environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """What is told when an instance of this environment has gone; nothing of one without a
    connection."""
    if NUMBER not in environment or not of_job(job):
        return ()
    names = (*_EVENT_WORDS, "NAME", NUMBER, "REMOTE_ADDR", "REMOTE_PORT")
    told = tuple((name, environment[name]) for name in names if name in environment)
    return (*told, ("JOB", job.name))


def _key(word: str) -> str:
    key = word.partition("=")[0]
    return "SOCKET_PATH" if key == "PATH" else key


def _value(match: Match, key: str) -> str:
    found = (word.partition("=")[2] for word in match.arguments if _key(word) == key)
    return next(found, "")


def parse(words: Iterable[str]) -> ListeningSocket:
    """The socket that an operand's words say; SpecError `socket` when they say none."""
    values: dict[str, Any] = {}
    for word in words:
        key, (field, read) = _known(word)
        if field in values:
            raise _error(f"{quoted(key)} is said twice", None)
        try:
            values[field] = read(word.partition("=")[2])
        except (Wrong, ValueError) as error:
            hint = error.hint if isinstance(error, Wrong) else None
            raise _error(f"{key}: {error}", hint) from None
    try:
        return ListeningSocket(**_checked(values))
    except Wrong as wrong:
        raise _error(wrong.message, wrong.hint) from None


def _known(word: str) -> tuple[str, tuple[str, Callable[[str], Any]]]:
    key = _key(word)
    if "=" not in word or key not in _WORDS:
        close = difflib.get_close_matches(key.upper(), _WORDS, n=1)
        hint = f"did you mean `{close[0]}`?" if close else f"known: {', '.join(_WORDS)}"
        raise _error(f"{quoted(word)} says nothing about a socket", hint)
    return key, _WORDS[key]


_ANY: Final = {Proto.INET: "0.0.0.0", Proto.INET6: "::"}
_TYPES: Final = {
    Proto.INET: (SocketType.STREAM, SocketType.DGRAM, SocketType.RAW),
    Proto.INET6: (SocketType.STREAM, SocketType.DGRAM, SocketType.RAW),
    Proto.UNIX: (SocketType.STREAM, SocketType.DGRAM, SocketType.SEQPACKET),
    Proto.VSOCK: (SocketType.STREAM, SocketType.SEQPACKET, SocketType.DGRAM),
    Proto.PACKET: (SocketType.RAW, SocketType.DGRAM),
    Proto.NETLINK: (SocketType.RAW, SocketType.DGRAM),
    Proto.FIFO: (SocketType.STREAM,),
    Proto.SPECIAL: (SocketType.STREAM,),
}
_NEEDS: Final = {
    Proto.INET: "port", Proto.INET6: "port", Proto.UNIX: "path", Proto.VSOCK: "port",
    Proto.NETLINK: "family", Proto.FIFO: "path", Proto.SPECIAL: "path",
}  # fmt: skip


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    """The fields of a socket that can be; Wrong when they contradict each other."""
    if "proto" not in values:
        if "path" not in values:
            raise Wrong("a socket says its PROTO", f"one of {', '.join(Proto)}")
        values["proto"] = Proto.UNIX
    proto: Proto = values["proto"]
    types = _TYPES[proto]
    if values.setdefault("type", types[0]) not in types:
        raise Wrong(f"there is no {values['type']} of PROTO={proto}", f"TYPE={'|'.join(types)}")
    need = _NEEDS.get(proto)
    if need is not None and need not in values:
        word = next(key for key, (field, _) in _WORDS.items() if field == need)
        raise Wrong(f"PROTO={proto} says its {word}", f"`PROTO={proto} {word}=…`")
    if "port" in values:
        bound = partial(units.between, 0, 2**32 - 1) if proto is Proto.VSOCK else _port
        values["port"] = bound(values["port"])
    if proto in _ANY:
        version = 4 if proto is Proto.INET else 6
        values["addr"] = _address(version, values.get("addr", _ANY[proto]))
    elif "addr" in values:
        raise Wrong(f"PROTO={proto} has no ADDR")
    if proto in (Proto.FIFO, Proto.SPECIAL) and values["path"].startswith("@"):
        raise Wrong("this is no path of a file", "only PROTO=unix has names without a file")
    found = ListeningSocket(**values)
    if found.accept is not Accept.NO and not found.has_connections:
        raise Wrong("nobody connects to this socket, so there is nothing to accept")
    if found.idle_s is not None and not (found.has_connections and proto in _ANY):
        raise Wrong("idleness is seen of TCP only", "a proxy sees it of others, too")
    return values


def address_words(text: str, kind: SocketType) -> tuple[str, ...]:
    """The words of an address as systemd.socket(5) writes it; Wrong when it is none.

    A port, `HOST:PORT`, `[V6]:PORT`, `/path`, `@name`, `vsock:CID:PORT`.
    """
    type_word = f"TYPE={kind}"
    if text.startswith(("/", "@")):
        return ("PROTO=unix", type_word, f"SOCKET_PATH={text}")
    if vsock := _VSOCK.fullmatch(text):
        type_word = f"TYPE={vsock[1]}" if vsock[1] else type_word
        cid = (f"CID={vsock[2]}",) if vsock[2] else ()
        return ("PROTO=vsock", type_word, *cid, f"PORT={vsock[3]}")
    if text.isdecimal():
        return ("PROTO=inet6", type_word, f"PORT={text}")
    found = _HOST.fullmatch(text)
    if found is None:
        hint = "a port, `HOST:PORT`, `[V6]:PORT`, `/path`, `@name` or `vsock:CID:PORT`"
        raise Wrong(f"{quoted(text)} is no address to listen on", hint)
    host, port = found[1] or found[2], found[3]
    if units.address(host).version == 4:
        return ("PROTO=inet", type_word, f"PORT={port}", f"ADDR={host}")
    return ("PROTO=inet6", type_word, f"PORT={port}", f"ADDR={host}{found[4] or ''}")


def of_job(job: Job) -> tuple[Match, ...]:
    """The operands about sockets that start a job, in their order, each once."""
    found = job.start_on.matches if job.start_on else ()
    return tuple(dict.fromkeys(match for match in found if is_socket(match)))


def problems(job: Job) -> tuple[tuple[str, SpecError], ...]:
    """What is wrong with the sockets that a job says: the word that it is about, and the error."""
    found = []
    for match in of_job(job):
        if says_where(match):
            try:
                parse(match.arguments)
            except SpecError as error:
                found.append((_culprit(match, error), error))
    return tuple(found)


def _culprit(match: Match, error: SpecError) -> str:
    """The word of an operand that an error is about, as far as the error tells."""
    for word in match.arguments:
        key, _, value = word.partition("=")
        if any(f"`{each}`" in error.message for each in (word, value)) or (
            error.message.startswith(f"{_key(key)}:")
        ):
            return word
    return match.arguments[0]


def _error(message: str, hint: str | None) -> SpecError:
    return SpecError("socket", message, hint=hint)
