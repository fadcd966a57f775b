"""What a unit says of other units, and what every unit of its kind says without a word.

The implicit and default dependencies are those of systemd.unit(5), systemd.service(5) and their
siblings, as far as the units concerned are ones that hostlab has: mounts, devices, swaps, slices
and scopes are none of its jobs, so what is said of them is left out here.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from hostlab.spec.source import Wrong, quoted
from hostlab.spec.systemd.syntax import Entry
from hostlab.spec.systemd.unit import Reader
from hostlab.spec.systemd.unit_names import UnitType, unit_name

STAGED = frozenset(
    {UnitType.SERVICE, UnitType.TARGET, UnitType.SOCKET, UnitType.TIMER, UnitType.PATH}
)
"""The types of units that become jobs."""
SHUTDOWN = "shutdown.target"
_LISTS = {
    "Wants": "wants",
    "Requires": "requires",
    "Requisite": "requisite",
    "BindsTo": "binds_to",
    "BindTo": "binds_to",
    "Upholds": "upholds",
    "PartOf": "part_of",
    "Conflicts": "conflicts",
    "Before": "before",
    "After": "after",
    "OnFailure": "on_failure",
    "OnSuccess": "on_success",
    "PropagatesStopTo": "propagates_stop_to",
    "StopPropagatedFrom": "stop_propagated_from",
    "PropagatesReloadTo": "propagates_reload_to",
    "PropagateReloadTo": "propagates_reload_to",
    "ReloadPropagatedFrom": "reload_propagated_from",
    "PropagateReloadFrom": "reload_propagated_from",
    "RequiresOverridable": "requires",
    "RequisiteOverridable": "requisite",
}


class Dependencies(msgspec.Struct, frozen=True, kw_only=True):
    """The units that a unit names, each once and in the order in which they were named."""

    wants: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    requisite: tuple[str, ...] = ()
    binds_to: tuple[str, ...] = ()
    upholds: tuple[str, ...] = ()
    part_of: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    on_failure: tuple[str, ...] = ()
    on_success: tuple[str, ...] = ()
    propagates_stop_to: tuple[str, ...] = ()
    stop_propagated_from: tuple[str, ...] = ()
    propagates_reload_to: tuple[str, ...] = ()
    reload_propagated_from: tuple[str, ...] = ()
    triggers: str | None = None
    """What a socket, timer or path starts."""
    default_after: tuple[str, ...] = ()
    """Ordering that nobody wrote: the first to go when there is a cycle."""
    has_defaults: bool = False
    """`DefaultDependencies=yes`, which a target and what it pulls both need for their order."""

    @property
    def pulls(self) -> tuple[str, ...]:
        """The units that are started together with this one."""
        return (*self.wants, *self.requires, *self.binds_to, *self.upholds)


class Install(msgspec.Struct, frozen=True, kw_only=True):
    """What `enable` does for a unit; without that it means nothing."""

    wanted_by: tuple[str, ...] = ()
    required_by: tuple[str, ...] = ()
    alias: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    default_instance: str = ""


def dependencies_of(reader: Reader, *, triggers: str | None = None) -> Dependencies:
    """The dependencies of a unit; `triggers` is what a socket, timer or path starts."""
    found: dict[str, dict[str, None]] = {field: {} for field in _LISTS.values()}
    for key, field in _LISTS.items():
        found[field] |= dict.fromkeys(_names(reader, "Unit", key))
    unit = reader.unit
    found["wants"] |= dict.fromkeys(_staged(unit.wants))
    found["requires"] |= dict.fromkeys(_staged(unit.requires))
    if triggers is not None and unit.name.type is not UnitType.SERVICE:
        found["before"][triggers] = None
    default: dict[str, None] = {}
    has_defaults = reader.flag("Unit", "DefaultDependencies", default=True)
    if has_defaults:
        _add_defaults(reader, found, default)
    if unit.name.type is UnitType.SERVICE:
        _add_of_service(reader, found)
    for names in found.values():
        names.pop(unit.name.name, None)
    values = {field: tuple(names) for field, names in found.items()}
    return Dependencies(
        **values, triggers=triggers, default_after=tuple(default), has_defaults=has_defaults
    )


def _add_defaults(
    reader: Reader, found: dict[str, dict[str, None]], default: dict[str, None]
) -> None:
    """`DefaultDependencies=yes`; what requires the early boot is ordered behind it only, since a
    node that runs jobs has that boot behind it."""
    name = reader.unit.name
    match name.type:
        case UnitType.SERVICE:
            default |= dict.fromkeys(("sysinit.target", "basic.target"))
        case UnitType.SOCKET | UnitType.PATH:
            default["sysinit.target"] = None
        case UnitType.TIMER:
            default["sysinit.target"] = None
            if reader.entries("Timer", "OnCalendar"):
                default |= dict.fromkeys(("time-set.target", "time-sync.target"))
        case _:
            # A target's order behind what it pulls depends on those too: see linking.py.
            pass
    if name.name != SHUTDOWN:
        found["conflicts"][SHUTDOWN] = None
        found["before"][SHUTDOWN] = None
    into = {
        UnitType.SOCKET: "sockets.target",
        UnitType.TIMER: "timers.target",
        UnitType.PATH: "paths.target",
    }.get(name.type)
    if into is not None:
        found["before"][into] = None


def _add_of_service(reader: Reader, found: dict[str, dict[str, None]]) -> None:
    """What a service's own keys imply."""
    sockets = _names(reader, "Service", "Sockets")
    found["wants"] |= dict.fromkeys(sockets)
    found["after"] |= dict.fromkeys(sockets)
    if reader.raw("Service", "Type") == "dbus" or reader.raw("Service", "BusName"):
        found["requires"]["dbus.socket"] = None
        found["after"]["dbus.socket"] = None


def install_of(reader: Reader) -> Install:
    """The `[Install]` section."""
    return Install(
        wanted_by=_names(reader, "Install", "WantedBy"),
        required_by=_names(reader, "Install", "RequiredBy"),
        alias=_names(reader, "Install", "Alias"),
        also=_names(reader, "Install", "Also"),
        default_instance=reader.raw("Install", "DefaultInstance"),
    )


def _names(reader: Reader, section: str, key: str) -> tuple[str, ...]:
    """The units that a key names; what is no unit's name is a warning."""
    found: dict[str, None] = {}
    for entry in reader.entries(section, key):
        for word in entry.value.split():
            name = _name(reader, entry, word)
            if name is not None:
                found[name] = None
    return tuple(found)


def _name(reader: Reader, entry: Entry, word: str) -> str | None:
    try:
        text = reader.specify(word)
        name = unit_name(text)
    except Wrong as wrong:
        reader.wrong(entry, wrong)
        return None
    if name.is_template and entry.section != "Install":
        instance = reader.unit.name.instance
        if not instance:
            hint = "an instance of it, as NAME@INSTANCE"
            reader.wrong(entry, Wrong(f"{quoted(text)} is a template", hint))
            return None
        return name.instantiate(instance)
    return text if entry.section == "Install" or name.type in STAGED else None


def _staged(names: Iterable[str]) -> list[str]:
    return [name for name in names if unit_name(name).type in STAGED]
