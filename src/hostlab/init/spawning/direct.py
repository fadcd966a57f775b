"""The short way to a process: its set-up as a list of system calls (`linux.vfork`).

`plan` says what `child` would do, for a set-up that asks for nothing that must be looked up or
decided in the new process: no user, no root of its own, no limits, no script. Everything else goes
the long way. docs/decisions/vfork.md gives the reasons.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import itertools
import os
import resource
import socket
import struct
from typing import TYPE_CHECKING, Final

import msgspec

from hostlab.errors import Problem
from hostlab.init.spawning.child import USUAL_FILES
from hostlab.init.spawning.meeting import Meeting
from hostlab.init.spawning.sandbox import TEMPORARY, make_temporary, to_protect
from hostlab.linux import vfork
from hostlab.linux.capabilities import (
    bits_to_drop,
    capget,
    exact_sets,
    held_until_execve,
    mask_of,
)
from hostlab.linux.clone import CLONE_NEWNS
from hostlab.linux.mounts import (
    AT_FDCWD,
    AT_RECURSIVE,
    MOUNT_ATTR_RDONLY,
    MS_BIND,
    MS_NODEV,
    MS_NOSUID,
    MS_REC,
    MS_SLAVE,
)
from hostlab.linux.seccomp import inert_capset

if TYPE_CHECKING:
    from hostlab.init.spawning.process import ProcessSetup

PR_CAPBSET_DROP: Final = 24
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_RAISE: Final = 2
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
CAP_SYS_ADMIN: Final = 21
SECCOMP_SET_MODE_FILTER: Final = 1
CAPABILITY_VERSION_3: Final = 0x20080522
BPF_INSTRUCTION_BYTES: Final = 8
MOUNT_ATTR_BYTES: Final = 32
MSG_NOSIGNAL: Final = socket.MSG_NOSIGNAL
_attributes = ctypes.create_string_buffer(struct.pack("=QQQQ", MOUNT_ATTR_RDONLY, 0, 0, 0))
_READONLY: Final = ctypes.addressof(_attributes)
PROC_SELF: Final = "/proc/self"
LISTEN_PID: Final = b"LISTEN_PID="
PID_BYTES: Final = 10
"""Digits of the largest pid there is."""
OUT_OF_THE_WAY: Final = 100
FILTER: Final = "set seccomp filter"
TELL: Final = "tell the holder"
EXECUTE: Final = "execute"
"""The names of these steps in `child`."""


class Plan(msgspec.Struct):
    """System calls in order, the step that each belongs to, and what their arguments point to."""

    rows: list[bytes] = msgspec.field(default_factory=list)
    steps: list[str] = msgspec.field(default_factory=list)
    alive: list[object] = msgspec.field(default_factory=list)
    meeting: Meeting | None = None
    """With the parent, on the way."""

    def add(self, step: str, call: str, *arguments: int, must: bool = True) -> None:
        """One more call."""
        self.rows.append(vfork.row(call, *arguments, must=must))
        self.steps.append(step)

    def add_rows(self, step: str, rows: tuple[bytes, ...]) -> None:
        """Calls that were made before."""
        self.rows += rows
        self.steps += [step] * len(rows)

    def text(self, value: bytes) -> int:
        """The address of a string; ValueError when the kernel would read a part of it only."""
        _must_be_whole(value)
        buffer = ctypes.create_string_buffer(value)
        self.alive.append(buffer)
        return ctypes.addressof(buffer)

    def texts(self, values: list[bytes]) -> int:
        """The address of a list of strings, as execve(2) takes it; ValueError as `text`."""
        for value in values:
            _must_be_whole(value)
        pointers = (ctypes.c_char_p * (len(values) + 1))(*values, None)
        self.alive.append(pointers)
        return ctypes.addressof(pointers)

    def environment(self, values: list[bytes], *, has_pid: bool) -> int:
        """As `texts`; with what is written behind their names on the way.

        That is LISTEN_PID, whose digits the new process reads from /proc for itself, and of a
        connection that it accepts, whose it is.
        """
        late = [] if self.meeting is None else list(self.meeting.variables)
        if has_pid:
            late.append(self._own_pid())
        for value in values:
            _must_be_whole(value)
        pointers = (ctypes.c_char_p * (len(values) + len(late) + 1))(*values)
        slots = ctypes.cast(pointers, ctypes.POINTER(ctypes.c_void_p))
        for number, buffer in enumerate(late, start=len(values)):
            slots[number] = ctypes.addressof(buffer)
        self.alive += (*late, pointers)
        return ctypes.addressof(pointers)

    def _own_pid(self) -> ctypes.Array[ctypes.c_char]:
        own = ctypes.create_string_buffer(LISTEN_PID, len(LISTEN_PID) + PID_BYTES + 1)
        digits = ctypes.addressof(own) + len(LISTEN_PID)
        self.add("tell its pid", "readlink", self.text(PROC_SELF.encode()), digits, PID_BYTES)
        return own

    def failed(self, results: list[int]) -> tuple[str, int] | None:
        """The step that failed, and why, by what each call returned; None when none did.

        A call without a result is the one that executed the program, or was never reached by a
        process that somebody has killed, which its end will tell.
        """
        if not results or results[-1] >= 0:
            return None
        step = self.steps[len(results) - 1]
        if step != EXECUTE:
            return step, -results[-1]
        if len(results) < len(self.rows):
            return None
        tried = [-result for result in results[self.steps.index(EXECUTE) :]]
        others = [number for number in tried if number not in (errno.ENOENT, errno.ENOTDIR)]
        return step, (others or tried[-1:])[0]


def plan(setup: ProcessSetup, key: str, channel: socket.socket | None) -> Plan | None:
    """How to start this process; None when that takes more than system calls, or cannot be.

    The long way finds the words for what cannot be.
    """
    if not _is_plain(setup) or not vfork.prepare():
        return None
    made = Plan()
    try:
        if channel is not None:
            text = f"+ {key}".encode()
            address = made.text(text)
            made.add(TELL, "sendto", channel.fileno(), address, len(text), MSG_NOSIGNAL, 0, 0)
        if setup.accepting is not None:
            made.meeting = Meeting(setup.accepting)
            setup = made.meeting.add(made, setup)
        made.add("make a session", "setsid")
        _descriptors(made, setup)
        made.add("set umask", "umask", setup.umask)
        _place(made, setup)
        _identity(made, setup)
        _usual_files(made)
        _execute(made, setup)
    except (ValueError, Problem, OSError):
        if made.meeting is not None:
            made.meeting.close()
        return None
    return made


def _must_be_whole(value: bytes) -> None:
    if b"\0" in value:
        raise ValueError("a NUL byte")


def _is_plain(setup: ProcessSetup) -> bool:
    is_sandboxed = setup.private_tmp or setup.readonly_paths
    # Whoever may not make a mount namespace needs a user namespace, which has several steps.
    if is_sandboxed and not capget()[0] >> CAP_SYS_ADMIN & 1:
        return False
    return not (
        setup.user is not None
        or setup.group is not None
        or setup.groups
        or setup.rlimits
        or setup.controlling_tty
        or setup.namespaces
        or setup.oom_score_adj is not None
        or setup.apparmor is not None
        or setup.script is not None
        or ((setup.further or setup.accepting) and not _proc_is_own())
        or setup.enter
        or setup.nice is not None
        or setup.chroot is not None
        or setup.debug
        or setup.writable_paths
        or setup.hidden_paths
        or "/" in setup.readonly_paths
    )


def _tells_pid(setup: ProcessSetup) -> bool:
    """As in `child`: sd_listen_fds(3) compares LISTEN_PID with the process' own number."""
    return bool(setup.further) and "LISTEN_FDS" in setup.environment


def _proc_is_own() -> bool:
    """Whether /proc tells a process its number as the process itself sees it."""
    try:
        return os.readlink(PROC_SELF) == str(os.getpid())
    except OSError:
        return False


def _descriptors(made: Plan, setup: ProcessSetup) -> None:
    """Where a number is both taken and given, all go out of the way first."""
    step = "move descriptors"
    moves = dict(enumerate(setup.descriptors)) | dict(setup.further)
    sources = set(moves.values())
    if not sources.isdisjoint(moves):
        # What else has one of these numbers is init's, which the new program has no use for.
        free = (number for number in itertools.count(OUT_OF_THE_WAY) if number not in sources)
        for (target, fd), number in zip(tuple(moves.items()), free, strict=False):
            made.add(step, "dup3", fd, number, os.O_CLOEXEC)
            moves[target] = number
    for target, fd in moves.items():
        made.add(step, "dup3", fd, target, 0)


def _place(made: Plan, setup: ProcessSetup) -> None:
    """Mounts and working directory, as `sandbox` makes them."""
    if setup.private_tmp or setup.readonly_paths:
        step = "make a mount namespace"
        none, root = made.text(b"none"), made.text(b"/")
        made.add(step, "unshare", CLONE_NEWNS)
        made.add(step, "mount", none, root, 0, MS_REC | MS_SLAVE, 0)
    if setup.private_tmp:
        step = "make a private /tmp"
        tmpfs, mode = made.text(b"tmpfs"), made.text(b"mode=1777")
        own = () if setup.temporary is None else make_temporary(setup.temporary)
        order = list(enumerate(TEMPORARY))
        # /tmp last: what is mounted may lie there.
        for number, target in reversed(order) if own else order:
            if number and (os.path.islink(target) or not os.path.isdir(target)):
                continue
            place = made.text(target.encode())
            if own:
                made.add(step, "mount", made.text(os.fsencode(own[number])), place, 0, MS_BIND, 0)
            else:
                made.add(step, "mount", tmpfs, place, tmpfs, MS_NOSUID | MS_NODEV, mode)
    for path in to_protect(setup.readonly_paths):
        place = made.text(os.fsencode(path))
        step = f"make {path} read-only"
        made.add(step, "mount", place, place, 0, MS_BIND | MS_REC, 0)
        made.add(step, "mount_setattr", AT_FDCWD, place, AT_RECURSIVE, _READONLY, MOUNT_ATTR_BYTES)
    made.add("change working directory", "chdir", made.text(os.fsencode(setup.directory)))


def _identity(made: Plan, setup: ProcessSetup) -> None:
    if setup.no_new_privs:
        made.add(FILTER, "prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if setup.seccomp:
        _filter(made, setup.seccomp)
    if setup.capabilities is not None:
        rows, keep = _capability_rows(setup.capabilities, ambient=setup.ambient)
        made.alive.append(keep)
        made.add_rows("set capabilities", rows)
    if setup.inert_capset:
        made.add(FILTER, "prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        _filter(made, inert_capset())


def _filter(made: Plan, program: bytes) -> None:
    compiled = _compiled(program)
    made.alive.append(compiled)
    made.add(FILTER, "seccomp", SECCOMP_SET_MODE_FILTER, 0, ctypes.addressof(compiled[0]))


class _SockFprog(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


@functools.lru_cache(maxsize=8)
def _compiled(program: bytes) -> tuple[_SockFprog, object]:
    buffer = ctypes.create_string_buffer(program, len(program))
    count = len(program) // BPF_INSTRUCTION_BYTES
    return _SockFprog(count, ctypes.addressof(buffer)), buffer


@functools.lru_cache(maxsize=64)
def _capability_rows(
    names: tuple[str, ...], *, ambient: bool
) -> tuple[tuple[bytes, ...], tuple[object, ...]]:
    wanted = mask_of(names)
    if wanted & ~capget()[1]:
        raise ValueError("more than init has itself")
    # Until `execve` the process has init's memory and descriptors: who may not look at init may not
    # look at it either, and whether the memory is dumpable does not come into it.
    sets = held_until_execve(exact_sets(wanted, ambient=ambient))
    drops = [
        vfork.row("prctl", PR_CAPBSET_DROP, bit, 0, 0, 0) for bit in bits_to_drop(sets.bounding)
    ]
    header = ctypes.create_string_buffer(struct.pack("=Ii", CAPABILITY_VERSION_3, 0))
    half = 0xFFFFFFFF
    three = (sets.effective, sets.permitted, sets.inheritable)
    words = [each & half for each in three] + [each >> 32 for each in three]
    data = ctypes.create_string_buffer(struct.pack("=6I", *words))
    capset = vfork.row("capset", ctypes.addressof(header), ctypes.addressof(data))
    clear = vfork.row("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    raises = [
        vfork.row("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, bit, 0, 0)
        for bit in range(64)
        if sets.ambient >> bit & 1
    ]
    return (*drops, capset, clear, *raises), (header, data)


def _usual_files(made: Plan) -> None:
    """As in `child`: init has raised its own limit of open files."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    soft = USUAL_FILES if hard == resource.RLIM_INFINITY else min(USUAL_FILES, hard)
    unlimited = (1 << 64) - 1
    limit = struct.pack("=QQ", soft, unlimited if hard == resource.RLIM_INFINITY else hard)
    buffer = ctypes.create_string_buffer(limit, len(limit))
    made.alive.append(buffer)
    made.add("set limits", "setrlimit", resource.RLIMIT_NOFILE, ctypes.addressof(buffer))


def _execute(made: Plan, setup: ProcessSetup) -> None:
    """As os.execvpe: a name without `/` is tried in each directory of PATH."""
    argv = made.texts([os.fsencode(word) for word in setup.argv])
    if any(not name or "=" in name for name in setup.environment):
        raise ValueError("no name of a variable")
    late = [] if made.meeting is None else ["REMOTE_ADDR", "REMOTE_PORT"]
    if _tells_pid(setup):
        late.append("LISTEN_PID")
    values = [
        os.fsencode(f"{name}={value}")
        for name, value in setup.environment.items()
        if name not in late
    ]
    environment = made.environment(values, has_pid=_tells_pid(setup))
    program = os.fsencode(setup.argv[0])
    places = [program]
    if b"/" not in program:
        path = os.get_exec_path(dict(setup.environment))
        places = [os.path.join(os.fsencode(directory), program) for directory in path]
    for place in places:
        made.add(EXECUTE, "execve", made.text(place), argv, environment, must=False)
