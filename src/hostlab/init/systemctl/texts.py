"""The verbs of systemctl that only tell: status, lists, is-active, cat."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Final

from hostlab.errors import SpecError
from hostlab.init.job_files import read_content
from hostlab.init.logs.files import opened, read_last
from hostlab.init.systemctl import show
from hostlab.init.systemctl.line import Refused
from hostlab.init.systemctl.manager import Call, has_type
from hostlab.init.systemctl.state import RUNNING, UnitState
from hostlab.init.systemctl.unit_files import ENABLED, paths_of
from hostlab.spec.signals import signal_name
from hostlab.spec.systemd.loading import LoadedUnit
from hostlab.spec.systemd.unit_names import UnitType, unit_name

NOT_RUNNING: Final = 3
NO_SUCH_UNIT: Final = 4
LOG_LINES: Final = 10
TURN_UNITS: Final = 16
"""Unit files that are looked at before somebody else's turn."""
MARKS: Final = {"active": "●", "reloading": "↻", "failed": "×", "inactive": "○"}
_STATUS_NAMES: Final = {0: "SUCCESS", 1: "FAILURE", 2: "INVALIDARGUMENT", 127: "n/a"}
_FOOT: Final = """
LOAD   = Reflects whether the unit definition was properly loaded.
ACTIVE = The high-level unit activation state, i.e. generalization of SUB.
SUB    = The low-level unit activation state, values depend on unit type."""


async def is_active(call: Call) -> None:
    """is-active: 0 when one of them is, else 3."""
    await _all_states(call, RUNNING, NOT_RUNNING)


async def is_failed(call: Call) -> None:
    """is-failed: 0 when one of them is, else 1."""
    await _all_states(call, frozenset({"failed"}), 1)


async def _all_states(call: Call, wanted: frozenset[str], status: int) -> None:
    states = [call.manager.state(name).active for name in call.units()]
    if not call.is_quiet:
        call.out += states or ["inactive"]
    call.status = 0 if wanted.intersection(states) else status


async def is_enabled(call: Call) -> None:
    """is-enabled: 0 when one of them is, in some way."""
    is_one = False
    for name in call.units(files=True):
        state = call.manager.files.state(name)
        if state is None:
            text = "No such file or directory"
            call.err.append(f"Failed to get unit file state for {name}: {text}")
            continue
        is_one = is_one or state in ENABLED
        if not call.is_quiet:
            call.say(state)
    call.status = 0 if is_one else 1


async def is_system_running(call: Call) -> None:
    """is-system-running: 0 for `running`, else 1."""
    state = show.system_state(call)
    if not call.is_quiet:
        call.say(state)
    call.status = 0 if state == "running" else 1


async def cat(call: Call) -> None:
    """cat: a unit's file and its drop-ins, each below its path."""
    is_first = True
    for name in call.units(files=True):
        unit = call.manager.find(name)
        paths = paths_of(unit) if unit is not None else ()
        if not paths:
            call.complain(f"No files found for {name}.")
            continue
        for path in paths:
            try:
                text = read_content(path)
            except SpecError as error:
                call.complain(error.message)
                continue
            if not is_first:
                call.say("")
            is_first = False
            call.say(f"# {path}")
            call.say(text.removesuffix("\n"))


async def get_default(call: Call) -> None:
    """get-default."""
    call.say(call.manager.units.target)


async def list_dependencies(call: Call) -> None:
    """list-dependencies: what a unit pulls in, as a tree; with `--reverse` who pulls it in."""
    names = call.manager.named(call.words) or [call.manager.units.target]
    for name in names:
        call.say(name)
        _tree(call, name, "", {name})


def _tree(call: Call, name: str, before: str, seen: set[str]) -> None:
    manager = call.manager
    own = manager.own_name(name)
    if call.line.has("reverse"):
        others = [o for o, each in manager.units.loaded.items() if own in each.dependencies.pulls]
    else:
        unit = manager.find(own)
        others = list(unit.dependencies.pulls) if unit is not None else []
    known = [other for other in sorted(set(others)) if manager.find(other) is not None]
    for number, other in enumerate(known):
        is_last = number == len(known) - 1
        mark = MARKS.get(manager.state(other).active, "●")
        call.say(f"{mark} {before}{'└─' if is_last else '├─'}{other}")
        goes_on = other.endswith(".target") or call.line.has("all")
        if goes_on and other not in seen:
            seen.add(other)
            _tree(call, other, before + ("  " if is_last else "│ "), seen)


async def list_units(call: Call) -> None:
    """list-units, and those of one type."""
    types = call.line.listed("type")
    if call.verb != "list-units":
        types = (call.verb.removeprefix("list-").removesuffix("s"),)
    states = call.line.listed("state") + (("failed",) if call.line.has("failed") else ())
    names = call.manager.named(call.words) if call.words else list(call.manager.loaded())
    rows: list[tuple[str, ...]] = []
    for name in names:
        unit = call.manager.find(name)
        state = call.manager.state(name)
        load = show.load_state(unit)
        if not has_type(name, types) or (load == "not-found" and not call.words):
            continue
        if states and not {load, state.active, state.sub}.intersection(states):
            continue
        is_shown = call.line.has("all") or states or call.words or state.active != "inactive"
        if is_shown:
            rows.append((name, load, state.active, state.sub, show.description_of(unit, name)))
    _print_units(call, rows)


def _print_units(call: Call, rows: list[tuple[str, ...]]) -> None:
    heads = ("UNIT", "LOAD", "ACTIVE", "SUB", "DESCRIPTION")
    shown = [heads, *rows] if call.has_legend and rows else rows
    widths = [max(len(row[column]) for row in shown) for column in range(4)] if shown else []
    for row in shown:
        cells = " ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        mark = "" if call.line.has("plain") else ("● " if "failed" in row[2:3] else "  ")
        call.say(f"{mark}{cells} {row[4]}".rstrip())
    if not call.has_legend:
        return
    if rows:
        call.say(_FOOT)
    hint = "" if call.line.has("all") else " Pass --all to see loaded but inactive units, too."
    call.say(f"{len(rows)} loaded units listed.{hint}")
    call.say("To show all installed unit files use 'systemctl list-unit-files'.")


async def list_unit_files(call: Call) -> None:
    """list-unit-files: every unit file with its state."""
    types, states = call.line.listed("type"), call.line.listed("state")
    wanted = set(call.manager.named(call.words, files=True)) if call.words else None
    rows = []
    for number, name in enumerate(call.manager.files.names()):
        if number % TURN_UNITS == 0:
            # Hundreds of files are read, and others are to be served meanwhile.
            await asyncio.sleep(0)
        if not has_type(name, types) or (wanted is not None and name not in wanted):
            continue
        state = call.manager.files.state(name)
        if state is not None and (not states or state in states):
            rows.append((name, state, call.manager.files.preset_word(name, state)))
    heads = ("UNIT FILE", "STATE", "PRESET")
    shown = [heads, *rows] if call.has_legend and rows else rows
    widths = [max(len(row[column]) for row in shown) for column in range(2)] if shown else []
    for row in shown:
        call.say(f"{row[0].ljust(widths[0])} {row[1].ljust(widths[1])} {row[2]}")
    if call.has_legend:
        call.say(f"\n{len(rows)} unit files listed." if rows else "0 unit files listed.")
    elif not rows and wanted is not None:
        call.status = 1


async def status(call: Call) -> None:
    """status: 0 when it runs, 3 when not, 4 when there is no such unit."""
    if not call.words:
        call.say(f"● {os.uname().nodename}")
        call.say(f"    State: {show.system_state(call)}")
        return
    for number, name in enumerate(call.units()):
        if number:
            call.say("")
        _status(call, name)


def _status(call: Call, name: str) -> None:
    manager = call.manager
    own = manager.own_name(name)
    unit = manager.find(name)
    if unit is None and own not in manager.supervisor.jobs.engine.classes:
        call.complain(f"Unit {name} could not be found.", NO_SUCH_UNIT)
        return
    state = manager.state(name)
    title = show.description_of(unit, own)
    call.say(f"{MARKS.get(state.active, '●')} {own}" + (f" - {title}" if title != own else ""))
    call.say(f"     Loaded: {_loaded(call, unit, own)}")
    if unit is not None:
        _drop_ins(call, unit)
    call.say(f"     Active: {_active(state)}")
    if unit is not None:
        found = show.properties(call, name)
        for label, key in (("TriggeredBy", "TriggeredBy"), ("Triggers", "Triggers")):
            if found.get(key):
                call.say(f"{label:>11}: ● {found[key]}")
        if found.get("Documentation"):
            call.say(f"       Docs: {found['Documentation']}")
    _processes(call, own, state)
    _log(call, own)
    if state.active not in RUNNING:
        call.status = call.status or NOT_RUNNING


def _loaded(call: Call, unit: LoadedUnit | None, own: str) -> str:
    load = show.load_state(unit)
    if unit is None or load == "not-found":
        return "not-found (Reason: Unit not found.)"
    if load == "masked":
        return f"masked (Reason: Unit {own} is masked.)"
    paths = paths_of(unit)
    parts = [paths[0]] if paths else []
    if enabled := call.manager.files.state(own):
        parts.append(enabled)
        if (preset := call.manager.files.preset_word(own, enabled)) != "-":
            parts.append(f"preset: {preset}")
    if load == "bad-setting":
        assert unit.error is not None
        return f"bad-setting (Reason: {unit.error.message})"
    return f"loaded ({'; '.join(parts)})" if parts else "loaded"


def _drop_ins(call: Call, unit: LoadedUnit) -> None:
    folders: dict[str, list[str]] = {}
    for path in paths_of(unit)[1:]:
        folder, _, file = path.rpartition("/")
        folders.setdefault(folder, []).append(file)
    label = "    Drop-In: "
    for folder, files in folders.items():
        call.say(f"{label}{folder}")
        call.say(f"             └─{', '.join(files)}")
        label = "             "


def _active(state: UnitState) -> str:
    text = state.active
    if state.active == "failed":
        text += f" (Result: {state.result})"
    elif state.sub not in (state.active, "dead"):
        text += f" ({state.sub})"
    elif state.active == "inactive":
        text += " (dead)"
    else:
        text += f" ({state.sub})"
    since = show.started_at(state)
    if since is not None:
        text += f" since {show.stamp(since)}; {_ago(time.time() - since)} ago"
    return text if not state.trouble else f"{text}: {state.trouble}"


def _ago(seconds: float) -> str:
    whole = max(0, int(seconds))
    for unit, length, below, rest in (
        ("day", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1),
    ):  # fmt: skip
        if whole >= length:
            count, left = divmod(whole, length)
            head = f"{count} days" if unit == "day" and count > 1 else f"{count} {unit}"
            if unit != "day":
                head = f"{count}{unit}"
            return f"{head} {left // rest}{below}" if left // rest else head
    return f"{whole}s"


def _processes(call: Call, own: str, state: UnitState) -> None:
    status = state.main_status
    if state.pid:
        call.say(f"   Main PID: {state.pid} ({show.process_name(state.pid)})")
    elif status is not None:
        if status > 0xFF:
            how = f"code=killed, signal={signal_name(status >> 8)}"
        else:
            how = f"code=exited, status={status}/{_STATUS_NAMES.get(status, 'n/a')}"
        call.say(f"   Main PID: ({how})")
    if text := show.says(call, own):
        call.say(f'     Status: "{text}"')
    pids = show.members(call, own)
    if not pids:
        return
    call.say(f"      Tasks: {len(pids)}")
    call.say(f"     CGroup: /system.slice/{own}")
    for pid in pids:
        mark = "└─" if pid == pids[-1] else "├─"
        call.say(f"             {mark}{pid} {show.command_line(pid)}")


def _log(call: Call, own: str) -> None:
    said = call.line.last("lines", str(LOG_LINES))
    if not said.isdigit():
        raise Refused(f"Failed to parse lines '{said}'")
    if unit_name(own).type is not UnitType.SERVICE or not int(said):
        return
    with opened(call.manager.log_path(own)) as files:
        text = read_last(files, int(said)).decode(errors="replace")
    if text:
        call.say("")
        call.say(text.removesuffix("\n"))
