"""up and down, as seen from the machine: what only a process outside the lab can do.

The order is what makes a crash harmless. Whatever outlives a process is journalled before it is
made; whatever else there is hangs on the lab's processes. So `down` needs the journal, the cgroup
and the mark only, and it never asks anyone inside.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from hostlab import typed
from hostlab.errors import Failed, Problem, Unsupported, UsageError
from hostlab.init.client import Control
from hostlab.init.protocol import HUNG_UP, listen
from hostlab.lab import idmap, remains
from hostlab.lab.description import description_named
from hostlab.lab.hub_start import HubProgram
from hostlab.lab.nesting import explained
from hostlab.lab.origin import Origin, remember
from hostlab.lab.paths import LabDirectory, boot_id, start_time
from hostlab.linux import cgroups
from hostlab.plan.journal import Entry, What
from hostlab.spec.model import Lab

HUB_SOCKET: Final = "hub.sock"
ANSWER_BYTES: Final = 8192
START_TIMEOUT_S: Final = 60.0
HUB_ENDED: Final = "hub-ended"
ATTEMPTS: Final = 3
"""A hub that is killed under an `up` is followed by another; one that always ends is an error."""

Progress = Callable[[int, int], None]


def hub_control(directory: LabDirectory) -> Control | None:
    """A connection to a lab's hub; None when it has none."""
    try:
        control = Control.to(directory.path, HUB_SOCKET)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        return None
    return control


def stage(
    lab: Lab,
    *,
    progress: Progress | None = None,
    leave: Sequence[str] = (),
    origin: Origin | None = None,
    hub: HubProgram | None = None,
) -> list[dict[str, Any]]:
    """Bring the machine from whatever is there of this lab to `lab`; returns the operations.

    A lab that runs is changed in place; one that lost its hub is cleared away and made anew. Nodes
    to `leave` are not made where they are missing: they are dead on purpose. `origin` is remembered
    as what the lab was staged from; without one, what was remembered stays. `hub` may load already.
    """
    # What leads out of a lab is much to load, and only `up` needs it.
    from hostlab.lab.outlets import NO_LINK

    directory = LabDirectory.of(lab.name)
    with directory.locked():
        for attempt in range(1, ATTEMPTS + 1):
            try:
                operations = _stage_once(directory, lab, hub or HubProgram(), progress, leave)
            except Failed as failure:
                if failure.code not in (HUNG_UP, HUB_ENDED, NO_LINK) or attempt == ATTEMPTS:
                    raise
            else:
                if origin is not None:
                    remember(directory, origin)
                return operations
        raise AssertionError("the last attempt returns or raises")


def _stage_once(
    directory: LabDirectory,
    lab: Lab,
    program: HubProgram,
    progress: Progress | None,
    leave: Sequence[str],
) -> list[dict[str, Any]]:
    from hostlab.lab import joining, outside

    control = hub_control(directory)
    if control is None:
        remains.clear(directory)
        control = _start(directory, program)
    try:
        with outside.ports(lab, control) as opened:
            joining.check_cables(lab)
            joining.device_links(lab, control)
            operations = _stage(control, lab, progress, leave)
            outside.publish(lab, control, opened)
        outside.machine_interfaces(directory, lab, control)
        joining.cables(lab, control)
        return operations
    except BaseException:
        with contextlib.suppress(OSError, Problem):
            if not control.call("status")["nodes"]:
                control.close()
                remains.clear(directory)
        raise
    finally:
        control.close()


def _stage(
    control: Control, lab: Lab, progress: Progress | None, leave: Sequence[str]
) -> list[dict[str, Any]]:
    def more(message: dict[str, Any]) -> None:
        if progress is not None and "progress" in message:
            progress(*message["progress"])

    answer = control.call("stage", more=more, lab=msgspec.to_builtins(lab), leave=list(leave))
    operations: list[dict[str, Any]] = answer["operations"]
    return operations


def unstage(name: str) -> bool:
    """Take a lab down, whatever state it is in; False when there was nothing of it."""
    directory = LabDirectory.of(name)
    with directory.locked():
        return remains.clear(directory)


def running(name: str, file: str | None = None) -> Control:
    """A connection to a running lab's hub; UsageError when there is no such lab."""
    control = hub_control(LabDirectory.of(name))
    if control is None:
        raise missing(name, file)
    return control


def missing(name: str, file: str | None = None) -> UsageError:
    """What to tell of a lab that is not up; one without its hub or directory needs another word.

    `file` is its description's, where that is known.
    """
    directory = LabDirectory.of(name)
    if directory.exists() or name in remains.labs_of(directory.base):
        what = "its hub" if directory.exists() else "its run directory"
        return UsageError(
            "broken-lab",
            f"lab {name!r} has lost {what}",
            hint=f"`hostlab down {name}` ends what is left; `hostlab up FILE` makes it anew",
        )
    file = file or description_named(name)
    if file is None:
        hint = "`hostlab up FILE` stages it; `hostlab ls` lists the labs that are up"
    else:
        hint = f"stage it first: `hostlab up {file}`"
    return UsageError("no-lab", f"lab {name} is not up", hint=hint)


def _start(directory: LabDirectory, program: HubProgram) -> Control:
    """Make the lab's places on the machine and start its hub in them."""
    directory.make()
    directory.record(Entry(What.LAB, directory.name, boot_id()))
    hierarchies = cgroups.find()
    unified, v1 = _make_cgroups(directory, hierarchies)
    fd = os.open(directory.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    mark = os.memfd_create(f"{remains.PREFIX}{directory.mark}")
    try:
        with listen(fd, HUB_SOCKET) as control, ours, theirs:
            start = {
                "name": directory.name,
                "base": directory.base,
                "unified": unified,
                "v1": v1,
                "maps_itself": idmap.maps_itself(),
            }
            program.become(start, (control.fileno(), theirs.fileno(), mark))
            theirs.close()
            _introduce(directory, ours, unified, v1, maps_itself=start["maps_itself"] is True)
    except BaseException:
        remains.clear(directory)
        raise
    finally:
        os.close(fd)
        os.close(mark)
    started = hub_control(directory)
    if started is None:
        raise _ended()
    return started


def lab_places(
    directory: LabDirectory, hierarchies: cgroups.Hierarchies
) -> tuple[str | None, dict[str, str]]:
    """A lab's directory in v2, or None, and in each hierarchy of v1, made or not."""

    def place(base: str) -> str:
        return f"{base}/{cgroups.TREE}/{directory.mark}"

    unified = place(hierarchies.unified) if hierarchies.unified else None
    return unified, {name: place(base) for name, base in hierarchies.v1.items()}


def _make_cgroups(
    directory: LabDirectory, hierarchies: cgroups.Hierarchies
) -> tuple[str | None, dict[str, str]]:
    """The lab's cgroups, journalled first; without the right to make them there are none."""
    unified, v1 = lab_places(directory, hierarchies)
    every = [path for path in (unified, *v1.values()) if path is not None]
    if every:
        directory.record(*(Entry(What.CGROUP, path) for path in every))
    for path in every:
        cgroups.make(path)
    if hierarchies.unified is not None and unified is not None and not v1:
        for parent in (hierarchies.unified, os.path.dirname(unified), unified):
            cgroups.enable(parent, cgroups.CONTROLLERS)
    return unified, v1


def _introduce(
    directory: LabDirectory,
    link: socket.socket,
    unified: str | None,
    v1: dict[str, str],
    *,
    maps_itself: bool,
) -> None:
    """Follow the hub into its namespaces: journal it, put it in its cgroup, write its user map."""
    link.settimeout(START_TIMEOUT_S)
    pid = int(_hear(link)["pid"])
    started = start_time(pid)
    directory.record(Entry(What.PROCESS, "hub", f"{pid} {started}"))
    try:
        _place(pid, unified, v1)
        link.send(b"go")
        _hear(link)
        if not maps_itself:
            idmap.write_maps(pid)
        link.send(b"go")
    except OSError as error:
        if start_time(pid) != started or isinstance(error, ConnectionError):
            raise _ended() from error
        raise
    _hear(link)


def _place(pid: int, unified: str | None, v1: dict[str, str]) -> None:
    """Put the hub into its cgroups."""
    if unified is not None:
        cgroups.make(f"{unified}/.hub")
        cgroups.write(f"{unified}/.hub/cgroup.procs", str(pid))
    for base in v1.values():
        cgroups.write(f"{base}/cgroup.procs", str(pid))


def _ended() -> Failed:
    return Failed(
        HUB_ENDED,
        "the hub ended before it was ready",
        hint="repeat the command; if it ends again, `hostlab doctor` looks for the cause",
    )


def _hear(link: socket.socket) -> dict[str, Any]:
    try:
        data = link.recv(ANSWER_BYTES)
    except ConnectionError:
        data = b""
    if not data:
        raise _ended()
    message = typed.decode(data, dict[str, Any])
    if "error" in message:
        found = explained(OSError(message["errno"], message["error"]))
        if isinstance(found, Unsupported):
            raise found
        raise Unsupported(
            "namespaces",
            f"this user cannot have the lab's namespaces: {message['error']}",
            hint="`hostlab doctor` tells what this machine lacks and how to get it",
        )
    return message
