"""A `.service` as a job: what runs, when it is ready, how it ends and is started again.

    ExecStartPre=   pre-start      ExecStop=       pre-stop
    ExecStart=      main           ExecStopPost=   post-stop
    ExecStartPost=  post-start     ExecReload=     reload, or its signal

A oneshot with RemainAfterExit= is a state: its commands are the pre-start, and it runs when they
have ended well. It has no main process, so that its ExecStop= is in front of the post-stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from hostlab.errors import Place, SpecError
from hostlab.spec.job import Command, Expect, Job, Kill, KillMode, NotifyAccess, Process, Readiness
from hostlab.spec.source import Wrong, quoted
from hostlab.spec.systemd.command_line import ExecLine, exec_lines
from hostlab.spec.systemd.conditions import requirements_of
from hostlab.spec.systemd.execution import execution_of
from hostlab.spec.systemd.respawning import normal_ends, respawn_of
from hostlab.spec.systemd.sandbox import capabilities_of, sandbox_of
from hostlab.spec.systemd.unit import Reader
from hostlab.spec.systemd.values import FOREVER_S, seconds, signal

DEFAULT_TIMEOUT_S = 90.0
SIGHUP = 1
SIGTERM = 15
_SECTION = "Service"
_KILL_PROGRAMS = frozenset({"kill", "/bin/kill", "/usr/bin/kill"})
_ALL_ENDS = (*range(1, 256), *(number << 8 for number in range(1, 65)))


class ServiceType(StrEnum):
    """`Type=` of a service."""

    SIMPLE = "simple"
    EXEC = "exec"
    FORKING = "forking"
    ONESHOT = "oneshot"
    DBUS = "dbus"
    NOTIFY = "notify"
    NOTIFY_RELOAD = "notify-reload"
    IDLE = "idle"


class Steps:
    """The commands of a service, by the keys that they stand under."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.condition = self._lines("ExecCondition")
        self.pre = self._lines("ExecStartPre")
        self.main = self._lines("ExecStart")
        self.post = self._lines("ExecStartPost")
        self.reload = self._lines("ExecReload")
        self.stop = self._lines("ExecStop")
        self.stop_post = self._lines("ExecStopPost")

    def _lines(self, key: str) -> list[ExecLine]:
        found: list[ExecLine] = []
        for entry in self.reader.entries(_SECTION, key):
            try:
                lines, said = exec_lines(entry.value, self.reader.specify)
            except Wrong as wrong:
                self.reader.wrong(entry, wrong)
                continue
            if said:
                self.reader.note(entry, f"{said}; it stays as it is written")
            for line in lines:
                if line.path != line.argv[0]:
                    self.reader.note(entry, f"it is called {line.path}, not {quoted(line.argv[0])}")
            found += lines
        return found


def service_job(reader: Reader) -> Job:
    """The job that a service is, without its dependencies; SpecError when it can be none."""
    steps = Steps(reader)
    kind = _type(reader, steps)
    fields: dict[str, Any] = execution_of(reader)
    fields |= sandbox_of(reader, fields["user"], fields["directories"])
    _processes(reader, kind, steps, fields)
    fields["readiness"] = _readiness(reader, kind)
    fields["respawn"] = respawn_of(reader)
    ends = normal_ends(reader, oneshot=kind is ServiceType.ONESHOT)
    if _ignores_end(fields) and not fields["respawn"].enabled:
        ends = (0, *_ALL_ENDS)
    fields["normal_exit"] = ends
    fields["kill"] = _kill(reader)
    fields["requirements"] = requirements_of(reader)
    fields["description"] = reader.text("Unit", "Description")
    return Job(name=reader.unit.name.name, **fields)


def _type(reader: Reader, steps: Steps) -> ServiceType:
    """What kind of service it is; SpecError for one that systemd refuses to load."""
    entry = reader.last(_SECTION, "Type")
    kind = None
    if entry is not None:
        try:
            kind = ServiceType(entry.value)
        except ValueError:
            hint = f"one of {', '.join(ServiceType)}"
            reader.wrong(entry, Wrong(f"{quoted(entry.value)} is no type of service", hint))
    if kind is None:
        if reader.raw(_SECTION, "BusName"):
            kind = ServiceType.DBUS
        else:
            kind = ServiceType.SIMPLE if steps.main else ServiceType.ONESHOT
    where = entry.place if entry else Place(reader.unit.fragment or reader.unit.name.name, 1, 1)
    remains = reader.flag(_SECTION, "RemainAfterExit")
    if not steps.main:
        if not steps.stop and not reader.raw("Unit", "SuccessAction"):
            raise SpecError(
                "no-command",
                f"{reader.unit.name.name} runs nothing: it has no ExecStart= that can be meant",
                where=where,
            )
        if kind is not ServiceType.ONESHOT or not (remains or not steps.stop):
            hint = "Type=oneshot with RemainAfterExit=yes"
            text = "a service that only has ExecStop= must remain active until it is stopped"
            raise SpecError("no-command", text, where=where, hint=hint)
    if len(steps.main) > 1 and kind is not ServiceType.ONESHOT:
        text = f"{len(steps.main)} commands in ExecStart=, which a {kind} service has one of"
        raise SpecError("commands", text, where=where, hint="Type=oneshot runs several")
    return kind


def _processes(reader: Reader, kind: ServiceType, steps: Steps, fields: dict[str, Any]) -> None:
    before = [*steps.condition, *steps.pre]
    is_oneshot = kind is ServiceType.ONESHOT
    if is_oneshot and reader.flag(_SECTION, "RemainAfterExit"):
        fields["pre_start"] = _process(reader, "ExecStart", [*before, *steps.main], fields)
        fields["post_stop"] = _process(reader, "ExecStop", [*steps.stop, *steps.stop_post], fields)
    else:
        fields["pre_start"] = _process(reader, "ExecStartPre", before, fields)
        if is_oneshot:
            fields["task"] = True
            after = [*steps.stop, *steps.stop_post]
            fields["post_stop"] = _process(reader, "ExecStopPost", after, fields)
        else:
            fields["pre_stop"] = _process(reader, "ExecStop", steps.stop, fields)
            fields["post_stop"] = _process(reader, "ExecStopPost", steps.stop_post, fields)
        fields["commands"] = tuple(line.command for line in steps.main)
        _main_identity(reader, steps.main, fields)
    fields["post_start"] = _process(reader, "ExecStartPost", steps.post, fields)
    reload_signal = _reload_signal(reader, kind, steps.reload)
    if reload_signal is None:
        fields["reload"] = _process(reader, "ExecReload", steps.reload, fields)
    else:
        fields["reload_signal"] = reload_signal


def _process(
    reader: Reader, key: str, lines: Sequence[ExecLine], fields: dict[str, Any]
) -> Process | None:
    """The step that these commands are."""
    if not lines:
        return None
    has_user = fields["user"] not in (None, "root", "0")
    privileged = [line.privileged or (line.keeps_identity == "!" and has_user) for line in lines]
    if reader.flag(_SECTION, "PermissionsStartOnly"):
        privileged = [True for _ in lines]
    if any(privileged) and not all(privileged):
        entry = reader.last(_SECTION, key) or reader.unit.entries[0]
        reader.note(entry, "commands with `+` and without it are one step, which runs without")
    commands = tuple(line.command for line in lines)
    return Process(commands=commands, privileged=all(privileged))


def _main_identity(reader: Reader, lines: Sequence[ExecLine], fields: dict[str, Any]) -> None:
    """A main process with `+` is root's, outside of the sandbox; with `!` it is root's inside."""
    if lines and all(line.privileged for line in lines):
        for field in ("user", "group", "capabilities"):
            fields[field] = None
        fields |= {"groups": (), "private_tmp": False, "no_new_privs": False}
        fields |= dict.fromkeys(("readonly_paths", "writable_paths", "hidden_paths"), ())
    elif lines and all(line.keeps_identity == "!" for line in lines) and fields["user"]:
        fields["main_is_root"] = True
        fields["capabilities"] = capabilities_of(reader, _SECTION, None)


def _ignores_end(fields: dict[str, Any]) -> bool:
    """Whether the one main command has a `-`: its end is no failure, and it is executed as it is,
    since a shell around it would be the main process."""
    commands: tuple[Command, ...] = fields.get("commands", ())
    if len(commands) != 1 or not commands[0].ignore_failure:
        return False
    fields["commands"] = (Command(argv=commands[0].argv, expand=commands[0].expand),)
    return True


def _reload_signal(reader: Reader, kind: ServiceType, lines: Sequence[ExecLine]) -> int | None:
    """The signal, when the reload is nothing but `kill -SIGNAL $MAINPID`."""
    if kind is ServiceType.NOTIFY_RELOAD and not lines:
        return reader.value(_SECTION, "ReloadSignal", signal, SIGHUP)
    if not lines:
        # A unit that does not say how cannot be reloaded; a job's default is what many take.
        return SIGHUP
    if len(lines) != 1 or lines[0].path not in _KILL_PROGRAMS:
        return None
    argv = lines[0].argv[1:]
    if len(argv) == 3 and argv[0] == "-s":
        argv = (f"-{argv[1]}", argv[2])
    if len(argv) != 2 or argv[1] not in ("$MAINPID", "${MAINPID}") or argv[0][:1] != "-":
        return None
    try:
        return signal(argv[0][1:])
    except Wrong:
        return None


def _readiness(reader: Reader, kind: ServiceType) -> Readiness:
    deadline = _timeout(reader, "TimeoutStartSec", None)
    default = None if kind is ServiceType.ONESHOT else DEFAULT_TIMEOUT_S
    if reader.last(_SECTION, "TimeoutStartSec") is None and not reader.last(_SECTION, "TimeoutSec"):
        deadline = default
    watchdog = reader.value(_SECTION, "WatchdogSec", seconds, None) or None
    expect = Expect.NONE
    pid_file = bus_name = None
    match kind:
        case ServiceType.FORKING:
            expect = Expect.FORK
            pid_file = _pid_file(reader)
        case ServiceType.NOTIFY | ServiceType.NOTIFY_RELOAD:
            expect = Expect.NOTIFY
        case ServiceType.DBUS:
            bus_name = reader.text(_SECTION, "BusName")
            expect = Expect.BUS if bus_name is not None else Expect.NONE
        case _:
            deadline = None
    return Readiness(
        kind=expect,
        deadline_s=deadline,
        watchdog_s=watchdog,
        pid_file=pid_file,
        bus_name=bus_name,
        notify_access=_notify_access(reader, kind),
    )


def _notify_access(reader: Reader, kind: ServiceType) -> NotifyAccess | None:
    """Of a notify service it is the main process at least; of others nobody if nothing is said."""
    entry = reader.last(_SECTION, "NotifyAccess")
    word = entry.value if entry is not None else "none"
    match word:
        case "all" | "exec":
            return NotifyAccess.ALL
        case "main":
            return NotifyAccess.MAIN
        case "none":
            notifies = kind in (ServiceType.NOTIFY, ServiceType.NOTIFY_RELOAD)
            return NotifyAccess.MAIN if notifies else None
        case _:
            assert entry is not None
            hint = "none, main, exec or all"
            reader.wrong(entry, Wrong(f"{quoted(word)} is nobody who may notify", hint))
            return None


def _pid_file(reader: Reader) -> str | None:
    path = reader.text(_SECTION, "PIDFile")
    if path is None or path.startswith("/"):
        return path
    return f"{reader.machine.runtime}/{path}"


def _timeout(reader: Reader, key: str, default: float | None) -> float | None:
    """A time of its own, or the one that both have; None is no limit, and so is 0."""
    entries = reader.entries(_SECTION, key, "TimeoutSec")
    if not entries:
        return default
    for entry in reversed(entries):
        try:
            return seconds(entry.value) or None
        except Wrong as wrong:
            reader.wrong(entry, wrong)
    return default


def _kill(reader: Reader) -> Kill:
    mode = reader.value(_SECTION, "KillMode", _kill_mode, KillMode.CONTROL_GROUP)
    timeout = _timeout(reader, "TimeoutStopSec", DEFAULT_TIMEOUT_S)
    if not reader.flag(_SECTION, "SendSIGKILL", default=True):
        timeout = None
    return Kill(
        timeout_s=FOREVER_S if timeout is None else timeout,
        signal=reader.value(_SECTION, "KillSignal", signal, SIGTERM),
        mode=mode,
    )


def _kill_mode(word: str) -> KillMode:
    known = (KillMode.CONTROL_GROUP, KillMode.MIXED, KillMode.PROCESS, KillMode.NONE)
    for mode in known:
        if word == mode:
            return mode
    raise Wrong(f"{quoted(word)} is no kill mode", f"one of {', '.join(known)}")
