"""What is being started by the short way has init's memory and descriptors: who gets at them.

The process stands still in its last step before `execve`, where its capabilities are the job's
already, and the memory that it shares is as readable as init's. Somebody in the node, with the same
user and the same capabilities, tries what ptrace(2) guards.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import struct
from collections.abc import Iterator

import pytest

from hostlab.init.spawning import direct
from hostlab.init.spawning.process import DEFAULT_PATH, ProcessSetup, prepare_to_spawn
from hostlab.linux import vfork
from hostlab.linux.capabilities import CapabilitySets, apply_sets, exact_sets, mask_of
from hostlab.spec.capabilities import DEFAULT

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(not vfork.prepare(), reason="no stub for this machine"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this"),
]
DEADLINE_S = 60
READ = {"x86_64": 0}
WAYS = ("fd", "pidfd_getfd", "mem", "process_vm_readv", "ptrace", "environ", "cwd")
CALLS = {"pidfd_getfd": 438, "process_vm_readv": 310, "ptrace": 101}
PTRACE_SEIZE = 0x4206


def attempt(way: str, pid: int, secret: int, address: int) -> bool:
    """Whether one way leads to the process' descriptors or memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    buffer = ctypes.create_string_buffer(8)
    ours = (ctypes.c_uint64 * 2)(ctypes.addressof(buffer), 8)
    theirs = (ctypes.c_uint64 * 2)(address, 8)
    with contextlib.suppress(PermissionError):
        match way:
            case "fd":
                return bool(os.readlink(f"/proc/{pid}/fd/{secret}"))
            case "cwd":
                return bool(os.readlink(f"/proc/{pid}/cwd"))
            case "mem" | "environ":
                with open(f"/proc/{pid}/{way}", "rb", buffering=0) as file:
                    return file.fileno() >= 0
            case "pidfd_getfd":
                with open(os.pidfd_open(pid), "rb", buffering=0) as pidfd:
                    return bool(libc.syscall(CALLS[way], pidfd.fileno(), secret, 0) >= 0)
            case "process_vm_readv":
                return bool(libc.syscall(CALLS[way], pid, ours, 1, theirs, 1, 0) >= 0)
            case "ptrace":
                taken = libc.syscall(CALLS[way], PTRACE_SEIZE, pid, 0, 0) >= 0
                return bool(taken)
    return False


def attack(channel: socket.socket, writer: int, secret: int, address: int) -> None:
    """Wait for the process that is started, try every way, tell which were open, let it go on."""
    signal.alarm(DEADLINE_S)
    _, ancillary, _, _ = channel.recvmsg(64, socket.CMSG_SPACE(12))
    pid = struct.unpack("=iII", ancillary[0][2])[0]
    apply_sets(exact_sets(mask_of(DEFAULT)))
    channel.recv(64)
    found = [way for way in WAYS if attempt(way, pid, secret, address)]
    os.write(writer, json.dumps({"pid": pid, "open": found}).encode())
    channel.send(b"go on")


@contextlib.contextmanager
def attacker(secret: int, address: int) -> Iterator[tuple[socket.socket, int]]:
    """The channel on which the process introduces itself, and where the findings come."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            attack(theirs, writer, secret, address)
        finally:
            os._exit(0)
    theirs.close()
    os.close(writer)
    try:
        yield ours, reader
    finally:
        ours.close()
        os.close(reader)
        os.waitpid(pid, 0)


def open_ways() -> list[str]:
    """Start `true` as in a node, held before its `execve`: by which ways somebody gets at it."""
    prepare_to_spawn()
    secret = os.memfd_create("secret")
    buffer = ctypes.create_string_buffer(b"secret")
    try:
        with attacker(secret, ctypes.addressof(buffer)) as (channel, reader):
            setup = ProcessSetup(
                ("/bin/true",), {"PATH": DEFAULT_PATH}, capabilities=tuple(sorted(DEFAULT))
            )
            made = direct.plan(setup, "key", channel)
            assert made is not None
            at = made.steps.index(direct.EXECUTE)
            here = made.text(b"here")
            made.rows[at:at] = [
                vfork.row("sendto", channel.fileno(), here, 4, 0, 0, 0),
                vfork.ROW.pack(READ[os.uname().machine], 0, channel.fileno(), here, 4, *[0] * 4),
            ]
            made.steps[at:at] = ["say", "wait"]
            pid, pidfd, _ = vfork.run(made.rows, 0, None)
            os.close(pidfd)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            told = json.loads(os.read(reader, 4096))
    finally:
        os.close(secret)
    assert told["pid"] == pid
    found: list[str] = told["open"]
    return found


def test_who_may_not_look_at_init_may_not_look_at_what_it_starts() -> None:
    assert open_ways() == []


def test_every_way_is_open_to_who_has_the_same_capabilities(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the test above would see of a process that had given up its capabilities already."""

    def given_up(sets: CapabilitySets) -> CapabilitySets:
        return sets

    direct._capability_rows.cache_clear()
    monkeypatch.setattr(direct, "held_until_execve", given_up)
    try:
        assert open_ways() == list(WAYS)
    finally:
        direct._capability_rows.cache_clear()
