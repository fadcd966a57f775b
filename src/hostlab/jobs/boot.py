"""The boot that unchanged jobs wait for.

Of the start conditions that people wrote, most name `filesystem` or `runlevel`: events that
mountall, ifupdown and init itself emitted on an Ubuntu host. A node has none of these, so its init
emits them. The table says what, in which order, and for what each is repeated; a description can
put another table in its place.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from hostlab.jobs.expression import Environment
from hostlab.spec import model

BUILT_IN = (
    "startup",
    "session-end",
    "control-alt-delete",
    "keyboard-request",
    "power-status-changed",
)
"""What init itself emits, on a start, on a session's end, and on signals (init/events.h)."""
DEFAULT_RUNLEVEL = "2"
HALT, SINGLE, REBOOT = "0", "1", "6"
NO_RUNLEVEL = "N"
"""What PREVLEVEL says before there was any."""


class Each(StrEnum):
    """What an event of the boot is emitted for."""

    ONCE = "once"
    MOUNT = "each mount"
    INTERFACE = "each interface"
    CONTAINER = "when this is a container"
    NO_CONTAINER = "when this is none"


class Milestone(msgspec.Struct, frozen=True, kw_only=True):
    """One row: an event, its environment with `{…}` to be filled in, and what it is for."""

    event: str
    environment: Environment = ()
    each: Each = Each.ONCE
    waits: bool = False
    """Whether the rest of the boot waits until the event is finished. mountall waited for its
    `mounted` only: else half of an `and` on any other event would hold the boot for ever."""
    why: str = ""


class Mount(msgspec.Struct, frozen=True, kw_only=True):
    """A mounted file system, as mountall tells of it."""

    device: str
    mountpoint: str
    type: str
    options: str = "defaults"


class Boot(msgspec.Struct, frozen=True, kw_only=True):
    """What a node has when it boots, to fill the table with."""

    mounts: tuple[Mount, ...] = ()
    interfaces: tuple[str, ...] = ("lo",)
    """`lo` first, as ifupdown does."""
    container: str | None = None
    """What `container=` of PID 1 says (`lxc`, `hostlab`); None is not a container."""
    runlevel: str = DEFAULT_RUNLEVEL


class Emission(msgspec.Struct, frozen=True, kw_only=True):
    """An event that is to be emitted; with `waits` the next one follows when it is finished."""

    event: str
    environment: Environment = ()
    waits: bool = False


UP: tuple[Milestone, ...] = (
    Milestone(event="startup", why="init itself: the first event there is"),
    Milestone(event="virtual-filesystems", why="mountall: /proc, /sys, /dev and /run are there"),
    Milestone(
        event="mounted",
        environment=(
            ("DEVICE", "{device}"),
            ("MOUNTPOINT", "{mountpoint}"),
            ("TYPE", "{type}"),
            ("OPTIONS", "{options}"),
        ),
        each=Each.MOUNT,
        waits=True,
        why="mountall: one for each file system, which a job may hold",
    ),
    Milestone(event="local-filesystems", why="mountall: everything that needs no network"),
    Milestone(event="remote-filesystems", why="mountall: everything that does"),
    Milestone(event="all-swaps", why="mountall: a node has none, so all of them are on"),
    Milestone(event="filesystem", why="mountall: everything is mounted"),
    Milestone(
        event="net-device-up",
        environment=(
            ("IFACE", "{interface}"),
            ("LOGICAL", "{interface}"),
            ("ADDRFAM", "{family}"),
            ("METHOD", "{method}"),
        ),
        each=Each.INTERFACE,
        why="ifupdown: `lo` first",
    ),
    Milestone(event="static-network-up", why="ifupdown: every interface of the description is up"),
    Milestone(
        event="container",
        environment=(("CONTAINER", "{container}"),),
        each=Each.CONTAINER,
        why="container-detect",
    ),
    Milestone(event="not-container", each=Each.NO_CONTAINER, why="container-detect"),
    Milestone(
        event="runlevel",
        environment=(("RUNLEVEL", "{runlevel}"), ("PREVLEVEL", NO_RUNLEVEL)),
        why="rc-sysinit: what most services start on",
    ),
)
"""From nothing to a node that serves."""

DOWN: tuple[Milestone, ...] = (
    Milestone(
        event="runlevel",
        environment=(("RUNLEVEL", "{runlevel}"), ("PREVLEVEL", "{previous}")),
        waits=True,
        why="shutdown and telinit: services stop on [016] or [!2345]",
    ),
    Milestone(event="deconfiguring-networking", why="ifupdown: before the interfaces go"),
)
"""To runlevel 0, 1 or 6."""


def described_boot(
    said: model.Boot, *, mounts: tuple[Mount, ...], interfaces: tuple[str, ...]
) -> tuple[Boot, tuple[Milestone, ...]]:
    """What `boot_events` takes, for a node whose description says this of its boot."""
    startup = msgspec.structs.replace(UP[0], event=said.startup_event)
    rest = UP[1:]
    if said.events is not None:
        rest = tuple(
            Milestone(
                event=event.name,
                environment=tuple((key, _literal(value)) for key, value in event.environment),
                why="the description",
            )
            for event in said.events
        )
    boot = Boot(
        mounts=mounts, interfaces=interfaces, container=said.container, runlevel=said.runlevel
    )
    return boot, (startup, *rest)


def _literal(value: str) -> str:
    """A value that `_fill` gives back as it is."""
    return value.replace("{", "{{").replace("}", "}}") if "{" in value else value


def boot_events(boot: Boot, table: tuple[Milestone, ...] = UP) -> tuple[Emission, ...]:
    """The events of a boot, in order."""
    found: list[Emission] = []
    for milestone in table:
        found += (_fill(milestone, values) for values in _values(boot, milestone.each))
    return tuple(found)


def shutdown_events(
    runlevel: str, previous: str, table: tuple[Milestone, ...] = DOWN
) -> tuple[Emission, ...]:
    """The events on the way down, or to single user."""
    values = {"runlevel": runlevel, "previous": previous}
    return tuple(_fill(milestone, values) for milestone in table)


def runlevel_event(runlevel: str, previous: str) -> Emission:
    """A change of the runlevel that leaves the node up."""
    return Emission(event="runlevel", environment=(("RUNLEVEL", runlevel), ("PREVLEVEL", previous)))


def _values(boot: Boot, each: Each) -> list[dict[str, str]]:
    """What the row is filled with, once for each event that it makes."""
    match each:
        case Each.ONCE:
            return [{"runlevel": boot.runlevel}]
        case Each.MOUNT:
            return [msgspec.structs.asdict(mount) for mount in boot.mounts]
        case Each.INTERFACE:
            return [
                {
                    "interface": name,
                    "family": "inet",
                    "method": "loopback" if name == "lo" else "static",
                }
                for name in boot.interfaces
            ]
        case Each.CONTAINER:
            return [{"container": boot.container}] if boot.container is not None else []
        case Each.NO_CONTAINER:
            return [] if boot.container is not None else [{}]


def _fill(milestone: Milestone, values: dict[str, str]) -> Emission:
    return Emission(
        event=milestone.event,
        waits=milestone.waits,
        environment=tuple(
            (key, value.format_map(values) if "{" in value else value)
            for key, value in milestone.environment
        ),
    )
