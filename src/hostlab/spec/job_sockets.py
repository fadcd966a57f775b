"""`sockets:` of a job: what init listens on for it, as the operands that start it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, Final

from msgspec.structs import replace

from hostlab.errors import SpecError
from hostlab.spec import sockets, units
from hostlab.spec.job import Expression, Job, Match, Operator
from hostlab.spec.scalars import DURATION, FLAG, PATH, SIZE, TEXT
from hostlab.spec.shapes import Fields, Forms, Key, ListOf, Said, Shape, Table, Text, choice, under
from hostlab.spec.sockets import SocketType
from hostlab.spec.source import Source, Wrong, quoted

CONNECTION: Final = "$CONNECTION"
"""The instance of a job that a connection starts."""
UDP: Final = "/udp"
PROGRAM: Final = "socket-proxy"
"""In a node's PATH (`hostlab.activation.proxy`)."""
STARTING, STOPPED = "starting", "stopped"
MAX_NUMBER: Final = 2**31 - 1

_ADDRESS = Text("an address to listen on", units.text, {"type": ["integer", "string"]})
_NUMBER = Text("a number", partial(units.between, 0, MAX_NUMBER), {"type": "integer"})
_MODE = Text("an octal mode", units.mode, {"type": ["integer", "string"]})
_ACCEPT = Text(
    "true, false or `inetd`",
    lambda word: word if word == "inetd" else units.flag(word),
    {"enum": [True, False, "inetd"]},
)

SOCKET = Table(
    "socket",
    "A socket that init listens on for a job. An address alone is its `listen`. Whoever connects "
    "starts the job, which gets all its sockets; they stay open while it is down.",
    (
        Key("listen", _ADDRESS, "A port, `HOST:PORT`, `[V6]:PORT`, the path of a Unix socket, "
            "`@name` of one without a file, `vsock:CID:PORT`; with `/udp` behind it for datagrams.",
            "127.0.0.1:8000"),
        Key("type", choice("a type of socket", ("stream", "dgram", "seqpacket")),
            "What passes through it.", "seqpacket", "stream"),
        Key("name", TEXT, "Its name in `LISTEN_FDNAMES`.", "admin", "`unknown`"),
        Key("accept", _ACCEPT, "Whether each connection has an instance of the job, which gets it "
            "as descriptor 3, or with `inetd` as standard input and output.", "inetd", "false"),
        Key("limit", TEXT, "How often it may start the job; above that it is closed, and the job "
            "has failed.", "5/1m", "20/2s"),
        Key("idle", DURATION, "Stop the job when it has had no connection for so long; the next "
            "starts it again.", "30s", "never"),
        Key("proxy", TEXT, "The daemon knows nothing of such sockets and listens here: a proxy "
            "starts it when somebody connects, and connects them when it is ready.",
            "127.0.0.1:8080", "none"),
        Key("max_connections", _NUMBER, "With `accept`: instances at the same time; others wait.",
            "500", "64"),
        Key("per_source", _NUMBER, "With `accept`: of one address; others are sent away.", "8",
            "no limit"),
        Key("backlog", _NUMBER, "How many may wait.", "128", "4096"),
        Key("mode", _MODE, "Of a Unix socket's file.", "'660'", "666"),
        Key("owner", TEXT, "Whose file it is.", "www-data", "root"),
        Key("group", TEXT, "The file's group.", "www-data", "the owner's"),
        Key("directory_mode", _MODE, "Of directories that are made for the file.", "'700'", "755"),
        Key("symlinks", ListOf(PATH), "Links to the file.", "[/run/log]"),
        Key("remove", FLAG, "Whether the file goes with the job.", "true", "false"),
        Key("flush", FLAG, "Whether who waits is sent away when the job ends.", "true", "false"),
        Key("free_bind", FLAG, "Whether it may have an address that the node has not.", "true",
            "false"),
        Key("reuse_port", FLAG, "Whether others may have the same port.", "true", "false"),
        Key("v6_only", FLAG, "Whether a port of IPv6 is not one of IPv4 too.", "true", "false"),
        Key("device", TEXT, "The interface it is bound to.", "eth0"),
        Key("no_delay", FLAG, "Whether TCP sends at once (TCP_NODELAY).", "true", "false"),
        Key("keep_alive", FLAG, "Whether TCP asks whether the other end is there.", "true",
            "false"),
        Key("defer", DURATION, "Wake the job only when a client has sent something, or after this.",
            "5s", "at once"),
        Key("receive_buffer", SIZE, "The kernel's receive buffer.", "1M", "the node's"),
        Key("send_buffer", SIZE, "The kernel's send buffer.", "1M", "the node's"),
        Key("pass_credentials", FLAG, "Whether a Unix socket tells who sends (SO_PASSCRED).",
            "true", "false"),
        Key("congestion", TEXT, "Congestion control of TCP.", "bbr", "the node's"),
    ),
    required=("listen",),
)  # fmt: skip
SOCKETS: Final[Shape] = ListOf(Forms(scalar=(_ADDRESS, under("listen")), mapping=(SOCKET, None)))

_WORDS: Final = {
    "name": "FDNAME", "accept": "ACCEPT", "limit": "LIMIT", "idle": "IDLE",
    "max_connections": "MAXCONN", "per_source": "PERSOURCE", "backlog": "BACKLOG", "mode": "MODE",
    "owner": "OWNER", "group": "GROUP", "directory_mode": "DIRMODE", "symlinks": "SYMLINKS",
    "remove": "REMOVE", "flush": "FLUSH", "free_bind": "FREEBIND", "reuse_port": "REUSEPORT",
    "v6_only": "IPV6ONLY", "device": "DEVICE", "no_delay": "NODELAY", "keep_alive": "KEEPALIVE",
    "defer": "DEFER", "receive_buffer": "RCVBUF", "send_buffer": "SNDBUF",
    "pass_credentials": "PASSCRED", "congestion": "CONGESTION",
}  # fmt: skip


def operands(source: Source, said: Iterable[Said]) -> tuple[Match, ...]:
    """The operands of a job's sockets; what cannot be one is reported."""
    found = []
    for each in said:
        fields: Fields = each.value
        if "listen" not in fields:
            continue
        at = fields["listen"].at
        try:
            words = (*_address(fields), *_options(fields))
            sockets.parse(words)
        except Wrong as wrong:
            source.report("value", wrong.message, at, wrong.hint)
        except SpecError as error:
            source.report("value", error.message, at, error.hint)
        else:
            found.append(Match(sockets.EVENT, words))
    return tuple(found)


def problems(condition: Expression | None) -> tuple[tuple[str, SpecError], ...]:
    """What is wrong with sockets that a condition says, as `sockets.problems` has it."""
    return () if condition is None else sockets.problems(Job(name="", start_on=condition))


def joined(condition: Expression | None, matches: Iterable[Match]) -> Expression | None:
    """`condition or socket … or socket …`."""
    nodes: list[Match | Operator] = list(condition.nodes) if condition else []
    for match in matches:
        nodes += (match, Operator.OR) if nodes else (match,)
    return Expression(tuple(nodes)) if nodes else None


def proxied(source: Source, job: Job, said: Iterable[Said]) -> tuple[Job, ...]:
    """A job, and where a socket has a proxy, that proxy: it starts the job and stops it.

    The event `starting` of the proxy is held until the job is ready, so nobody is connected before.
    """
    fields: list[Fields] = [each.value for each in said if "proxy" in each.value]
    if not fields:
        return (job,)
    targets = {each["proxy"].value for each in fields}
    if len(targets) > 1 or len(fields) < len(tuple(said)):
        message = "all sockets of a job have the same proxy, or none has one"
        source.report("clash", message, fields[0]["proxy"].at)
        return (job,)
    idle = min((each["idle"].value for each in fields if "idle" in each), default=None)
    options = () if idle is None else ("--idle", f"{idle:g}")
    name = f"{job.name}-proxy"
    matches = tuple(match for match in sockets.of_job(job))
    start_on = Expression((Match(STARTING, (name,)),))
    stop_on = joined(job.stop_on, (Match(STOPPED, (name,)),))
    proxy = Job(
        name=name,
        argv=(PROGRAM, *options, "--tell", targets.pop()),
        start_on=joined(None, matches),
        kill=job.kill,
        description=f"the sockets of {job.name}",
    )
    return (proxy, replace(job, start_on=start_on, stop_on=stop_on))


def accepts(matches: Iterable[Match]) -> bool:
    """Whether a connection is an instance of the job."""
    return any(sockets.parse(each.arguments).accept is not sockets.Accept.NO for each in matches)


def _address(fields: Fields) -> tuple[str, ...]:
    text: str = fields["listen"].value
    kind = SocketType(fields.value("type", "stream"))
    if text.endswith(UDP):
        if fields.value("type", "dgram") != "dgram":
            raise Wrong(f"{quoted(text)} is a datagram socket")
        text, kind = text.removesuffix(UDP), SocketType.DGRAM
    return sockets.address_words(text.removesuffix("/tcp"), kind)


def _options(fields: Fields) -> Iterable[str]:
    for key, word in _WORDS.items():
        # With a proxy it is the proxy that is idle.
        if key in fields and not (key == "idle" and "proxy" in fields):
            yield f"{word}={_text(key, fields[key].value)}"


def _text(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if key in ("mode", "directory_mode"):
        return f"{value:04o}"
    if isinstance(value, float):
        return f"{f'{value:.3f}'.rstrip('0').rstrip('.')}s"
    if isinstance(value, list):
        return ":".join(each.value for each in value)
    return str(value)
