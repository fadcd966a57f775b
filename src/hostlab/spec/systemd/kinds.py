"""Sockets, timers, paths, targets and slices as values; what acts on them comes later.

A socket's, timer's or path's own job is a state: it runs while the source listens for it.
"""

from __future__ import annotations

from enum import StrEnum
from functools import partial

import msgspec

from hostlab.spec.source import Wrong, quoted
from hostlab.spec.systemd.execution import SECTION
from hostlab.spec.systemd.unit import Reader
from hostlab.spec.systemd.unit_names import UnitType, unit_name
from hostlab.spec.systemd.values import integer, mode, seconds, size

DEFAULT_BACKLOG = 4096
MAX_INT = 2**31 - 1
_REPEATED = ("OnActiveSec", "OnBootSec", "OnStartupSec", "OnUnitActiveSec", "OnUnitInactiveSec")
_WATCHED = ("PathExists", "PathExistsGlob", "PathChanged", "PathModified", "DirectoryNotEmpty")


class Listening(StrEnum):
    """What a socket unit listens on, by its key behind `Listen`."""

    STREAM = "Stream"
    DATAGRAM = "Datagram"
    SEQUENTIAL_PACKET = "SequentialPacket"
    FIFO = "FIFO"
    NETLINK = "Netlink"
    SPECIAL = "Special"
    MESSAGE_QUEUE = "MessageQueue"
    USB_FUNCTION = "USBFunction"


class Listen(msgspec.Struct, frozen=True, kw_only=True):
    """One address of a socket unit."""

    kind: Listening
    address: str
    """As it is written: a port, `HOST:PORT`, a path, `@abstract`, `vsock:CID:PORT`."""


class SocketUnit(msgspec.Struct, frozen=True, kw_only=True):
    """A `.socket`: what listens, and for whom."""

    service: str
    """The unit that is started; with `accept` a template, an instance for each connection."""
    listen: tuple[Listen, ...]
    accept: bool = False
    name: str
    """Of its descriptors, in LISTEN_FDNAMES."""
    mode: int = 0o666
    directory_mode: int = 0o755
    user: str | None = None
    group: str | None = None
    backlog: int = DEFAULT_BACKLOG
    ipv6_only: str = "default"
    """`default`, `both` or `ipv6-only`."""
    bind_to_device: str | None = None
    max_connections: int = 64
    max_connections_per_source: int = 0
    """0 is no limit."""
    keep_alive: bool = False
    keep_alive_time_s: float | None = None
    keep_alive_interval_s: float | None = None
    keep_alive_probes: int | None = None
    no_delay: bool = False
    defer_accept_s: float | None = None
    receive_buffer_bytes: int | None = None
    send_buffer_bytes: int | None = None
    free_bind: bool = False
    transparent: bool = False
    broadcast: bool = False
    reuse_port: bool = False
    pass_credentials: bool = False
    pass_packet_info: bool = False
    remove_on_stop: bool = False
    flush_pending: bool = False
    writable: bool = False
    symlinks: tuple[str, ...] = ()
    tcp_congestion: str | None = None
    trigger_limit_interval_s: float = 2.0
    trigger_limit_burst: int | None = None
    """None is 200 with `accept`, else 20."""


class Repeated(msgspec.Struct, frozen=True, kw_only=True):
    """A time after something, of a timer: `OnBootSec` and its like."""

    since: str
    seconds: float


class TimerUnit(msgspec.Struct, frozen=True, kw_only=True):
    """A `.timer`: when a unit is started."""

    unit: str
    calendar: tuple[str, ...] = ()
    """Calendar expressions as they are written (systemd.time(7))."""
    repeated: tuple[Repeated, ...] = ()
    accuracy_s: float = 60.0
    randomized_delay_s: float = 0.0
    fixed_random_delay: bool = False
    persistent: bool = False
    wake_system: bool = False
    remain_after_elapse: bool = True
    on_clock_change: bool = False
    on_timezone_change: bool = False


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """One path that is watched."""

    kind: str
    path: str


class PathUnit(msgspec.Struct, frozen=True, kw_only=True):
    """A `.path`: what is watched for a unit."""

    unit: str
    watched: tuple[Watched, ...]
    make_directory: bool = False
    directory_mode: int = 0o755
    trigger_limit_interval_s: float = 2.0
    trigger_limit_burst: int = 200


class SliceUnit(msgspec.Struct, frozen=True, kw_only=True):
    """A `.slice`: a place in the tree of control groups."""

    parent: str | None


def triggered(reader: Reader) -> str | None:
    """The unit that a socket, timer or path starts; None for the others."""
    name = reader.unit.name
    key = {UnitType.SOCKET: "Service", UnitType.TIMER: "Unit", UnitType.PATH: "Unit"}.get(name.type)
    if key is None:
        return None
    if name.type is UnitType.SOCKET and reader.flag("Socket", "Accept"):
        return f"{name.prefix}@.service"
    said = reader.text(SECTION[name.type], key)
    if said is not None:
        try:
            return unit_name(said).name
        except Wrong as wrong:
            entry = reader.last(SECTION[name.type], key)
            assert entry is not None
            reader.wrong(entry, wrong)
    return f"{name.stem}.service"


def socket_unit(reader: Reader) -> SocketUnit:
    """What a `.socket` says; Wrong when it listens on nothing."""
    flag = partial(_flag, reader, "Socket")
    keys = {f"Listen{kind}": kind for kind in Listening}
    listen = [
        Listen(kind=keys[entry.key], address=address)
        for entry, address in reader.each("Socket", keys, reader.specify)
    ]
    if not listen:
        raise Wrong("it listens on nothing", "ListenStream=, ListenDatagram= …")
    service = triggered(reader)
    assert service is not None
    section = "Socket"
    number = partial(integer, low=0, high=MAX_INT)
    return SocketUnit(
        service=service,
        listen=tuple(listen),
        accept=flag("Accept"),
        name=reader.text(section, "FileDescriptorName") or reader.unit.name.name,
        mode=reader.value(section, "SocketMode", mode, 0o666),
        directory_mode=reader.value(section, "DirectoryMode", mode, 0o755),
        user=reader.text(section, "SocketUser"),
        group=reader.text(section, "SocketGroup"),
        backlog=reader.value(section, "Backlog", number, DEFAULT_BACKLOG),
        ipv6_only=reader.value(section, "BindIPv6Only", _ipv6_only, "default"),
        bind_to_device=reader.text(section, "BindToDevice"),
        max_connections=reader.value(section, "MaxConnections", number, 64),
        max_connections_per_source=reader.value(section, "MaxConnectionsPerSource", number, 0),
        keep_alive=flag("KeepAlive"),
        keep_alive_time_s=reader.value(section, "KeepAliveTimeSec", seconds, None),
        keep_alive_interval_s=reader.value(section, "KeepAliveIntervalSec", seconds, None),
        keep_alive_probes=reader.value(section, "KeepAliveProbes", number, None),
        no_delay=flag("NoDelay"),
        defer_accept_s=reader.value(section, "DeferAcceptSec", seconds, None),
        receive_buffer_bytes=reader.value(section, "ReceiveBuffer", size, None),
        send_buffer_bytes=reader.value(section, "SendBuffer", size, None),
        free_bind=flag("FreeBind"),
        transparent=flag("Transparent"),
        broadcast=flag("Broadcast"),
        reuse_port=flag("ReusePort"),
        pass_credentials=flag("PassCredentials"),
        pass_packet_info=flag("PassPacketInfo"),
        remove_on_stop=flag("RemoveOnStop"),
        flush_pending=flag("FlushPending"),
        writable=flag("Writable"),
        symlinks=reader.words(section, "Symlinks"),
        tcp_congestion=reader.text(section, "TCPCongestion"),
        trigger_limit_interval_s=_span(reader, section, "TriggerLimitIntervalSec", 2.0),
        trigger_limit_burst=reader.value(section, "TriggerLimitBurst", number, None),
    )


def timer_unit(reader: Reader) -> TimerUnit:
    """What a `.timer` says; Wrong when it never elapses."""
    flag = partial(_flag, reader, "Timer")
    calendar = tuple(entry.value for entry in reader.entries("Timer", "OnCalendar"))
    repeated = [
        Repeated(since=key, seconds=span)
        for key in _REPEATED
        for _, span in reader.each("Timer", (key,), seconds)
        if span is not None
    ]
    clock, zone = flag("OnClockChange"), flag("OnTimezoneChange")
    if not (calendar or repeated or clock or zone):
        raise Wrong("it never elapses", "OnCalendar=, OnBootSec= …")
    unit = triggered(reader)
    assert unit is not None
    return TimerUnit(
        unit=unit,
        calendar=calendar,
        repeated=tuple(repeated),
        accuracy_s=_span(reader, "Timer", "AccuracySec", 60.0),
        randomized_delay_s=_span(reader, "Timer", "RandomizedDelaySec", 0.0),
        fixed_random_delay=flag("FixedRandomDelay"),
        persistent=flag("Persistent"),
        wake_system=flag("WakeSystem"),
        remain_after_elapse=reader.flag("Timer", "RemainAfterElapse", default=True),
        on_clock_change=clock,
        on_timezone_change=zone,
    )


def path_unit(reader: Reader) -> PathUnit:
    """What a `.path` says; Wrong when it watches nothing."""
    watched = [
        Watched(kind=key, path=path)
        for key in _WATCHED
        for _, path in reader.each("Path", (key,), partial(_absolute, reader))
    ]
    if not watched:
        raise Wrong("it watches nothing", f"one of {', '.join(_WATCHED)}")
    unit = triggered(reader)
    assert unit is not None
    number = partial(integer, low=0, high=MAX_INT)
    return PathUnit(
        unit=unit,
        watched=tuple(watched),
        make_directory=_flag(reader, "Path", "MakeDirectory"),
        directory_mode=reader.value("Path", "DirectoryMode", mode, 0o755),
        trigger_limit_interval_s=_span(reader, "Path", "TriggerLimitIntervalSec", 2.0),
        trigger_limit_burst=reader.value("Path", "TriggerLimitBurst", number, 200),
    )


def slice_unit(reader: Reader) -> SliceUnit:
    """Where a slice is: `a-b.slice` is in `a.slice`, and that in the root."""
    stem = reader.unit.name.stem
    if stem == "-":
        return SliceUnit(parent=None)
    parent = stem.rpartition("-")[0]
    return SliceUnit(parent=f"{parent or '-'}.slice")


def _flag(reader: Reader, section: str, key: str) -> bool:
    return reader.flag(section, key)


def _span(reader: Reader, section: str, key: str, default: float) -> float:
    for _, found in reversed(reader.each(section, (key,), seconds)):
        return default if found is None else found
    return default


def _absolute(reader: Reader, word: str) -> str:
    path = reader.specify(word)
    if not path.startswith("/"):
        raise Wrong(f"{quoted(path)} is no absolute path")
    return path


def _ipv6_only(word: str) -> str:
    if word not in ("default", "both", "ipv6-only"):
        raise Wrong(f"{quoted(word)} is none of default, both, ipv6-only")
    return word
