"""The verbs of systemctl that change what runs."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Final

from hostlab.errors import UsageError
from hostlab.init.initctl.surroundings import Down
from hostlab.init.systemctl.line import Refused
from hostlab.init.systemctl.manager import NOT_LOADED, Call
from hostlab.init.systemctl.state import RUNNING
from hostlab.jobs import facts
from hostlab.jobs.effects import Reply
from hostlab.spec.job import KillMode
from hostlab.spec.signals import signal_number
from hostlab.spec.systemd.graph import pull
from hostlab.spec.systemd.linking import propagated
from hostlab.spec.systemd.unit_names import UnitType, unit_name

WHY: Final = {
    "exit-code": "because the control process exited with error code",
    "signal": "because a fatal signal was delivered to the control process",
    "timeout": "because a timeout was exceeded",
    "resources": "because of unavailable resources or another system error",
    "start-limit-hit": "because start of the service was attempted too often",
}
NEVER_ISOLATED: Final = frozenset({UnitType.SLICE, UnitType.SCOPE})
DOWN: Final = {
    "poweroff": Down.POWEROFF, "halt": Down.HALT, "reboot": Down.REBOOT, "exit": Down.POWEROFF,
}  # fmt: skip


async def start(call: Call) -> None:
    """start."""
    for name in call.units():
        await _start(call, name)


async def _start(call: Call, name: str) -> bool:
    try:
        reply = await call.manager.start(name, call)
    except UsageError as error:
        status = NOT_LOADED if error.code == "no-unit" else 1
        call.complain(f"Failed to {call.verb} {name}: {error.message}", status)
        return False
    if reply is None or reply.ok or not call.waits:
        return True
    _tell_failure(call, name, reply)
    return False


def _tell_failure(call: Call, name: str, reply: Reply) -> None:
    state = call.manager.state(name)
    if state.active != "failed":
        # A condition that does not hold is no failure, and neither is who stops it meanwhile.
        if state.condition_held:
            call.complain(f"Job for {name} canceled.")
        return
    if "which it requires" in state.trouble:
        call.complain(f"A dependency job for {name} failed. See 'journalctl -xe' for details.")
        return
    if state.trouble.startswith("start: Assert"):
        call.complain(f"Assertion failed on job for {name}.")
        return
    why = WHY.get(state.result, f"({reply.message})")
    text = f'See "systemctl status {name}" and "journalctl -xeu {name}" for details.'
    call.complain(f"Job for {name} failed {why}.\n{text}")


async def stop(call: Call) -> None:
    """stop."""
    for name in call.units():
        await _stop(call, name)


async def _stop(call: Call, name: str) -> None:
    found = call.manager.find(name)
    own = call.manager.own_name(name)
    if found is None and own not in call.manager.supervisor.jobs.engine.classes:
        call.complain(f"Failed to {call.verb} {name}: Unit {name} not loaded.", NOT_LOADED)
        return
    await call.manager.stop(name, call)


async def restart(call: Call) -> None:
    """restart, and try-restart, which leaves alone what does not run."""
    for name in call.units():
        runs = call.manager.state(name).active not in ("inactive", "failed")
        token = call.token("stop", call.manager.own_name(name))
        was_asked = call.manager.supervisor.jobs.book.knows(token)
        if not (runs or was_asked) and call.verb in ("try-restart", "condrestart"):
            continue
        await _restart(call, name, runs=runs or was_asked)


async def _restart(call: Call, name: str, *, runs: bool) -> None:
    manager = call.manager
    others: list[str] = []
    if runs:
        try:
            manager.units.load([name])
        except UsageError as error:
            status = NOT_LOADED if error.code == "no-unit" else 1
            call.complain(f"Failed to {call.verb} {name}: {error.message}", status)
            return
        dependencies = {each: unit.dependencies for each, unit in manager.units.loaded.items()}
        others = [
            other
            for other in propagated("restart", manager.own_name(name), dependencies)
            if manager.state(other).active in RUNNING
        ]
        # The next one is to have the description that there is now, so it is no `Restart`.
        if call.waits:
            await manager.stop(name, call)
        else:
            await _restart_later(call, name)
            return
    if await _start(call, name):
        for other in others:
            await _start(call, other)


async def _restart_later(call: Call, name: str) -> None:
    own = call.manager.own_name(name)
    jobs = call.manager.supervisor.jobs
    with contextlib.suppress(UsageError):
        jobs.tell(facts.Restart(job=own))


async def reload(call: Call) -> None:
    """reload, and those that restart what cannot."""
    for name in call.units():
        await _reload(call, name)


async def _reload(call: Call, name: str) -> None:
    manager = call.manager
    found = manager.find(name)
    active = manager.state(name).active in RUNNING
    tries = call.verb in ("try-reload-or-restart", "reload-or-try-restart", "force-reload")
    if call.verb != "reload" and (not active or found is None or not can_reload(call, name)):
        if active or not tries:
            await _restart(call, name, runs=active)
        return
    if found is None:
        call.complain(f"Failed to reload {name}: Unit {name} not found.", NOT_LOADED)
    elif not can_reload(call, name):
        text = f"Job type reload is not applicable for unit {name}."
        call.complain(f"Failed to reload {name}: {text}")
    elif not active:
        call.complain(f"{name} is not active, cannot reload.")
    else:
        dependencies = {each: unit.dependencies for each, unit in manager.units.loaded.items()}
        own = manager.own_name(name)
        for each in (own, *propagated("reload", own, dependencies)):
            if each != own and manager.state(each).active not in RUNNING:
                continue
            if not await manager.reload(each, call):
                text = f'See "systemctl status {each}" and "journalctl -xeu {each}" for details.'
                call.complain(f"Job for {each} failed.\n{text}")


def can_reload(call: Call, name: str) -> bool:
    """Whether the unit says how it reloads."""
    found = call.manager.find(name)
    if found is None:
        return False
    if found.dependencies.propagates_reload_to:
        return True
    said = {entry.key: entry.value for entry in found.unit.entries if entry.section == "Service"}
    return bool(said.get("ExecReload")) or said.get("Type") == "notify-reload"


async def isolate(call: Call) -> None:
    """Start a target, and stop everything that it does not pull in."""
    (target, *more) = call.units()
    if more:
        raise Refused("Too many arguments.")
    unit = call.manager.find(target)
    if unit is not None and not _flag(unit.unit.entries, "AllowIsolate"):
        text = "Operation refused, unit may not be isolated."
        raise Refused(f"Failed to isolate {target}: {text}")
    await _isolate(call, target)


async def go_to(call: Call) -> None:
    """default, rescue and emergency: isolate that target."""
    await _isolate(call, f"{call.verb}.target")


async def _isolate(call: Call, target: str) -> None:
    manager = call.manager
    try:
        manager.units.load([target])
    except UsageError as error:
        status = NOT_LOADED if error.code == "no-unit" else 1
        call.complain(f"Failed to {call.verb} {target}: {error.message}", status)
        return
    own = manager.own_name(target)
    pulls = {name: unit.dependencies.pulls for name, unit in manager.units.loaded.items()}
    kept = {own, *pull(own, pulls)}
    for name in list(manager.loaded()):
        unit = manager.find(name)
        is_ignored = unit is not None and _flag(unit.unit.entries, "IgnoreOnIsolate")
        if name not in kept and not is_ignored and unit_name(name).type not in NEVER_ISOLATED:
            await manager.stop(name, call)
    await _start(call, target)


def _flag(entries: object, key: str) -> bool:
    assert isinstance(entries, tuple)
    values = [entry.value for entry in entries if entry.key == key]
    return bool(values) and values[-1].lower() in ("yes", "true", "on", "1")


async def kill(call: Call) -> None:
    """Send a signal to a unit's processes."""
    said = call.line.last("signal", "SIGTERM")
    number = int(said) if said.isdigit() else signal_number(said.removeprefix("SIG"))
    if not number or number >= signal.NSIG:
        raise Refused(f'Failed to parse signal string "{said}".')
    whom = call.line.last("kill-whom") or call.line.last("kill-who") or "all"
    if whom not in ("main", "control", "all"):
        raise Refused(f"Failed to kill unit: Invalid who argument {whom}")
    jobs = call.manager.supervisor.jobs
    for name in call.units():
        instance = jobs.engine.instance(call.manager.own_name(name))
        if instance is None:
            call.complain(f"Failed to kill unit {name}: Unit {name} not loaded.")
            continue
        for step, process in instance.processes.items():
            is_main = step == "main"
            if process.pid is None or (whom == "main" and not is_main):
                continue
            if whom == "control" and is_main:
                continue
            if whom == "all":
                scope = KillMode.CONTROL_GROUP
                jobs.cgroups.signal(process.spawn, number, scope, pid=process.pid)
            else:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, number)


async def reset_failed(call: Call) -> None:
    """Forget how units have failed: those that are named, or all."""
    engine = call.manager.supervisor.jobs.engine
    names = call.units() if call.words else list(call.manager.loaded())
    for name in names:
        own = call.manager.own_name(name)
        if own in engine.classes:
            call.manager.supervisor.jobs.tell(facts.Forget(name=own))
        elif call.words:
            call.complain(f"Failed to reset failed state of unit {name}: Unit {name} not loaded.")


async def daemon_reload(call: Call) -> None:
    """Read the unit files again; the generators run before."""
    await call.manager.units.refresh()


async def go_down(call: Call) -> None:
    """poweroff, reboot, halt."""
    down = DOWN[call.verb]
    supervisor = call.manager.supervisor
    token = call.token("down", down)
    if not supervisor.jobs.book.knows(token):
        supervisor.jobs.book.took(token)
        supervisor.go_down(down, force=call.line.has("force"), token=token)


async def nothing(call: Call) -> None:
    """What a node's init has no use for, and scripts count on."""
