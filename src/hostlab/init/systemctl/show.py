"""The properties of units that `systemctl show` prints (org.freedesktop.systemd1(5)).

Those that scripts and people ask for; what systemd alone knows (slices, CPU accounting, jobs of its
own) is not among them, and `-p` with such a name prints nothing, as for a name that nobody knows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from hostlab.init.systemctl.control import can_reload
from hostlab.init.systemctl.manager import Call
from hostlab.init.systemctl.state import UnitState
from hostlab.init.systemctl.unit_files import paths_of
from hostlab.spec.systemd.kinds import PathUnit, SocketUnit, TimerUnit
from hostlab.spec.systemd.loading import LoadedUnit
from hostlab.spec.systemd.unit_names import UnitType, unit_name

SIGNALLED: Final = 2
EXITED: Final = 1
_LISTS: Final = {
    "Requires": "requires", "Requisite": "requisite", "Wants": "wants", "BindsTo": "binds_to",
    "PartOf": "part_of", "Conflicts": "conflicts", "Before": "before", "After": "after",
    "OnFailure": "on_failure", "OnSuccess": "on_success", "Upholds": "upholds",
    "PropagatesReloadTo": "propagates_reload_to",
    "ReloadPropagatedFrom": "reload_propagated_from",
}  # fmt: skip
_REVERSED: Final = {
    "RequiredBy": "requires", "WantedBy": "wants", "BoundBy": "binds_to", "ConsistsOf": "part_of",
}  # fmt: skip
_SAID: Final = (
    "Type", "Restart", "NotifyAccess", "PIDFile", "BusName", "User", "Group", "KillMode",
    "RemainAfterExit", "GuessMainPID", "WorkingDirectory", "Slice", "Environment",
)  # fmt: skip
_DEFAULTS: Final = {
    "Restart": "no", "NotifyAccess": "none", "KillMode": "control-group", "RemainAfterExit": "no",
    "GuessMainPID": "yes",
}  # fmt: skip


async def show(call: Call) -> None:
    """show, of units, or of the manager when none is named."""
    asked = call.line.listed("property")
    names = call.manager.named(call.words) if call.words else []
    if not call.words:
        _print(call, manager_properties(call), asked)
    for number, name in enumerate(names):
        if number:
            call.say("")
        _print(call, properties(call, name), asked)


def _print(call: Call, found: Mapping[str, str], asked: tuple[str, ...]) -> None:
    for key in asked or found:
        if key in found and (asked or found[key] or call.line.has("all")):
            call.say(found[key] if call.line.has("value") else f"{key}={found[key]}")


def properties(call: Call, name: str) -> dict[str, str]:
    """A unit's properties by name."""
    manager = call.manager
    own = manager.own_name(name)
    unit = manager.find(name)
    state = manager.state(name)
    found = {
        "Id": own,
        "Names": " ".join((own, *unit.unit.aliases)) if unit is not None else own,
        "Description": description_of(unit, own),
        "LoadState": load_state(unit),
        "ActiveState": state.active,
        "SubState": state.sub,
        "UnitFileState": manager.files.state(own) or "",
    }
    if unit is not None:
        found |= _of_files(call, unit, own)
        found |= _of_relations(call, unit, own)
    if unit_name(own).type is UnitType.SERVICE:
        found |= _of_service(unit, state)
        found |= _of_process(call, state, own)
    found |= {
        "CanStart": _word(unit is not None and not unit.unit.masked and unit.error is None),
        "CanStop": _word(unit is not None),
        "CanReload": _word(can_reload(call, name)),
        "CanIsolate": _word(own.endswith(".target")),
        "NeedDaemonReload": "no",
        "ConditionResult": _word(state.condition_held),
        "AssertResult": _word(not state.trouble.startswith("start: Assert")),
        "Result": state.result,
    }
    return found


def _of_files(call: Call, unit: LoadedUnit, own: str) -> dict[str, str]:
    paths = paths_of(unit)
    state = call.manager.files.state(own) or ""
    return {
        "FragmentPath": paths[0] if paths else "",
        "DropInPaths": " ".join(paths[1:]),
        "UnitFilePreset": call.manager.files.preset_word(own, state) if state else "",
        "SourcePath": _said(unit, "SourcePath", section="Unit"),
        "Documentation": _said(unit, "Documentation", section="Unit"),
    }


def _of_relations(call: Call, unit: LoadedUnit, own: str) -> dict[str, str]:
    dependencies = unit.dependencies
    found = {key: " ".join(getattr(dependencies, field)) for key, field in _LISTS.items()}
    others = call.manager.units.loaded
    found["After"] = " ".join((*dependencies.after, *dependencies.default_after))
    for key, field in _REVERSED.items():
        names = [name for name, each in others.items() if own in getattr(each.dependencies, field)]
        found[key] = " ".join(names)
    kind = unit.kind
    if isinstance(kind, SocketUnit):
        found["Triggers"] = kind.service
        found["Listen"] = " ".join(f"{each.address} ({each.kind})" for each in kind.listen)
        found["Accept"] = _word(kind.accept)
    elif isinstance(kind, TimerUnit | PathUnit):
        found["Triggers"] = kind.unit
    triggered = [name for name, each in others.items() if _triggers(each, own)]
    found["TriggeredBy"] = " ".join(triggered)
    return found


def _triggers(unit: LoadedUnit, name: str) -> bool:
    match unit.kind:
        case SocketUnit():
            return unit.kind.service == name
        case TimerUnit() | PathUnit():
            return unit.kind.unit == name
        case _:
            return False


def _of_service(unit: LoadedUnit | None, state: UnitState) -> dict[str, str]:
    found = {key: _said(unit, key) or _DEFAULTS.get(key, "") for key in _SAID}
    if not found["Type"]:
        found["Type"] = "simple" if _said(unit, "ExecStart") else "oneshot"
    return found | {"NRestarts": str(state.respawns)}


def _of_process(call: Call, state: UnitState, own: str) -> dict[str, str]:
    status = state.main_status
    code, number = "0", "0"
    if status is not None:
        code = str(EXITED if status <= 0xFF else SIGNALLED)
        number = str(status if status <= 0xFF else status >> 8)
    since = started_at(state)
    return {
        "MainPID": str(state.pid),
        "ControlPID": str(state.control_pid),
        "ExecMainPID": str(state.pid),
        "ExecMainCode": code,
        "ExecMainStatus": number,
        "ExecMainStartTimestamp": "" if since is None else stamp(since),
        "ActiveEnterTimestamp": "" if since is None else stamp(since),
        "StatusText": says(call, own) or "",
        "TasksCurrent": str(len(members(call, own))) if state.pid else "[not set]",
        "ControlGroup": f"/system.slice/{own}" if state.pid else "",
        "InvocationID": "",
    }


def manager_properties(call: Call) -> dict[str, str]:
    """What is said of init itself."""
    units = call.manager.units
    failed = sum(call.manager.state(name).active == "failed" for name in call.manager.loaded())
    return {
        "Version": "252 (hostlab)",
        "Features": "",
        "SystemState": system_state(call),
        "NNames": str(len(list(call.manager.loaded()))),
        "NFailedUnits": str(failed),
        "NJobs": "0",
        "UnitPath": " ".join(units.library.directories),
        "Environment": " ".join(
            f"{key}={value}" for key, value in units.jobs.engine.environment.items()
        ),
    }


def system_state(call: Call) -> str:
    """`is-system-running`."""
    supervisor = call.manager.supervisor
    if supervisor.goes_down:
        return "stopping"
    if not supervisor.booted.is_set():
        return "starting"
    states = {call.manager.state(name).active for name in call.manager.loaded()}
    if "activating" in states and not states & {"active"}:
        return "starting"
    return "degraded" if "failed" in states else "running"


def load_state(unit: LoadedUnit | None) -> str:
    """`LoadState`."""
    if unit is None:
        return "not-found"
    if unit.unit.masked:
        return "masked"
    return "loaded" if unit.error is None else "bad-setting"


def description_of(unit: LoadedUnit | None, name: str) -> str:
    """What a unit is called for people."""
    if unit is None:
        return name
    if unit.job is not None and unit.job.description:
        return unit.job.description
    return _said(unit, "Description", section="Unit") or name


def says(call: Call, name: str) -> str | None:
    """What the main process last said of itself (`STATUS=`)."""
    jobs = call.manager.supervisor.jobs
    instance = jobs.engine.instance(name)
    main = instance.main if instance is not None else None
    return jobs.readiness.notes(main.spawn).status if main is not None else None


def members(call: Call, name: str) -> tuple[int, ...]:
    """The processes of a unit."""
    jobs = call.manager.supervisor.jobs
    instance = jobs.engine.instance(name)
    if instance is None:
        return ()
    found: set[int] = set()
    for process in instance.processes.values():
        own = {process.pid} if process.pid else set()
        found |= set(jobs.cgroups.members(process.spawn)) or own
    return tuple(sorted(found))


def started_at(state: UnitState, now: Callable[[], float] = time.time) -> float | None:
    """When the main process was started, in seconds since 1970; None: it does not run."""
    if state.since is None or not state.pid:
        return None
    return now() - (time.monotonic() - state.since)


def stamp(seconds: float) -> str:
    """A time as systemd writes it: `Sat 2026-11-28 14:00:00 UTC`."""
    return time.strftime("%a %Y-%m-%d %H:%M:%S %Z", time.localtime(seconds))


def command_line(pid: int) -> str:
    """What a process was started with; empty when it has gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read(4096).rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def process_name(pid: int) -> str:
    """What a process is called."""
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except OSError:
        return "?"


def _said(unit: LoadedUnit | None, key: str, *, section: str = "Service") -> str:
    values = [
        entry.value
        for entry in (unit.unit.entries if unit is not None else ())
        if entry.section == section and entry.key == key
    ]
    return values[-1] if values else ""


def _word(value: bool) -> str:  # noqa: FBT001
    return "yes" if value else "no"
