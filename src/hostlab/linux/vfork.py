"""A child that does nothing but a list of system calls, in its parent's memory.

`clone3` copies the page tables of an interpreter, and what the child and its parent write until
`execve` are a thousand page faults. With CLONE_VM and CLONE_VFORK nothing is copied: the parent
stands still until the child has executed its program or is gone (vfork(2)). No Python can run in
such a child, so it runs `_STUB`: for each row of a table one system call, whose result it stores.
That is what posix_spawn(3) does, which knows neither namespaces nor cgroups nor capabilities.

The child has descriptors, signal handlers and credentials of its own; it shares the memory until
`execve` has let go of it, which is a moment after the parent goes on. Who may look at the child
till then sees the parent's memory, so its credentials must keep everybody out whom the parent's do
(`capabilities.held_until_execve`). That the memory is not dumpable (`prctl`, PR_SET_DUMPABLE) does
not: it is the memory's, and the parent cannot tell when to put it back.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import struct
import threading
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from hostlab.linux.clone import (
    CLONE_INTO_CGROUP,
    CLONE_PARENT,
    CLONE_PIDFD,
    CloneArgs,
)

CLONE_VM: Final = 0x00000100
CLONE_VFORK: Final = 0x00004000
CLONE_CLEAR_SIGHAND: Final = 0x100000000
STACK_BYTES: Final = 1 << 14
"""Nothing is ever put on it."""
MUST: Final = 1
"""A row whose failure is the child's end."""
ROW: Final = struct.Struct("=qq6Qq")
_RESULT_AT: Final = 64
_NOT_DONE: Final = 1 << 62
_END: Final = ROW.pack(-1, 0, 0, 0, 0, 0, 0, 0, 0)
_MASK: Final = (1 << 64) - 1

NUMBERS: Final[dict[str, dict[str, int]]] = {
    "x86_64": {
        "accept4": 288,
        "capset": 126,
        "chdir": 80,
        "close": 3,
        "dup3": 292,
        "execve": 59,
        "mkdir": 83,
        "mknod": 133,
        "mount": 165,
        "mount_setattr": 442,
        "pivot_root": 155,
        "prctl": 157,
        "readlink": 89,
        "recvfrom": 45,
        "seccomp": 317,
        "sendto": 44,
        "setrlimit": 160,
        "setsid": 112,
        "setsockopt": 54,
        "symlink": 88,
        "umask": 95,
        "umount2": 166,
        "unlink": 87,
        "unshare": 272,
    }
}
_ROWS: Final = {
    # rows: mov rax, [r12]; test rax, rax; js over                 the row's number, or the end
    # mov rdi, [r12+16]; mov rsi, [r12+24]; mov rdx, [r12+32]
    # mov r10, [r12+40]; mov r8, [r12+48]; mov r9, [r12+56]
    # syscall; mov [r12+64], rax; test rax, rax; jns next          its result
    # test byte ptr [r12+8], 1; jnz over                           MUST
    # next: add r12, 72; jmp rows
    # over:
    "x86_64": bytes.fromhex(
        "498b04244885c07838498b7c2410498b742418498b542420"
        "4d8b5424284d8b4424304d8b4c24380f05498944244048"
        "85c0790841f64424080175064983c448ebbf"
    )
}
_STUBS: Final = {
    # push rbx; push r12; mov r12, rdx; mov eax, 435; syscall      clone3(rdi, rsi)
    # test rax, rax; jz rows; pop r12; pop rbx; ret                the parent
    # rows; mov edi, 127; mov eax, 231; syscall; hlt               the child, exit_group(127)
    "x86_64": (
        bytes.fromhex("5341544989d4b8b30100000f054885c07404415c5bc3"),
        bytes.fromhex("bf7f000000b8e70000000f05f4"),
    )
}
_OWN_STUBS: Final = {
    # push r12; mov r12, rdi; rows; pop r12; ret
    "x86_64": (bytes.fromhex("41544989fc"), bytes.fromhex("415cc3"))
}
_MANY_STUBS: Final = {
    # rdi: arguments; rsi: the size of one; rdx: how many; rcx: results
    # push rbx, r12 … r15; mov r12, rdi; mov r13, rsi; mov r14, rdx; mov r15, rcx; xor ebx, ebx
    # again: cmp rbx, r14; jge done; mov rdi, r12; mov rsi, r13; mov eax, 435; syscall
    # test rax, rax; jz child; mov [r15+rbx*8], rax; js done
    # add r12, r13; inc rbx; jmp again
    # done: mov rax, -1; jmp out; child: mov rax, rbx; out: pop r15 … r12, rbx; ret
    "x86_64": bytes.fromhex(
        "5341544155415641574989fc4989f54989d64989cf31db4c39f37d204c89e74c89ee"
        "b8b30100000f054885c07417498904df78084d01ec48ffc3ebdb48c7c0ffffffff"
        "eb034889d8415f415e415d415c5bc3"
    )
}
_OWN_AT: Final = 1024
"""Where in its page the stub for the caller's own process is,"""
_MANY_AT: Final = 2048
"""and the one for many children."""
CALL: Final = NUMBERS.get(os.uname().machine, {})
"""Numbers of system calls; empty where there is no stub for this machine."""


class _Machine:
    """The stubs in executable memory, and a stack."""

    def __init__(self, name: str) -> None:
        # Private: what a hub and its nodes share by fork, none of them may change for another.
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        writable = mmap.PROT_READ | mmap.PROT_WRITE
        self._code = mmap.mmap(-1, mmap.PAGESIZE, flags=private, prot=writable)
        for place, (before, behind) in ((0, _STUBS[name]), (_OWN_AT, _OWN_STUBS[name])):
            self._code.seek(place)
            self._code.write(before + _ROWS[name] + behind)
        self._code.seek(_MANY_AT)
        self._code.write(_MANY_STUBS[name])
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._code))
        mprotect = ctypes.CDLL(None, use_errno=True).mprotect
        mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        if mprotect(address, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC) < 0:
            raise OSError(ctypes.get_errno(), "mprotect")
        self.call = ctypes.PYFUNCTYPE(
            ctypes.c_long, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p
        )(address)
        self.do = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(address + _OWN_AT)
        self.clone = ctypes.PYFUNCTYPE(
            ctypes.c_long, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p
        )(address + _MANY_AT)
        self._stack = mmap.mmap(-1, STACK_BYTES, flags=private, prot=writable)
        self.stack = ctypes.addressof(ctypes.c_char.from_buffer(self._stack))


Meanwhile = Callable[[int, Callable[[int], int | None]], None]
_machines: dict[str, _Machine | None] = {}


def prepare() -> bool:
    """Make the stub, once; False where it cannot be had, or may not be used just now.

    Beside other threads it is not used: they would go on in the memory that the child shares.
    """
    if "own" not in _machines:
        name = os.uname().machine
        try:
            has_stub = name in _STUBS and struct.calcsize("P") == 8
            _machines["own"] = _Machine(name) if has_stub else None
        except OSError:
            # A system that lets nobody make memory executable.
            _machines["own"] = None
    return _machines["own"] is not None and threading.active_count() == 1


def row(call: str, *arguments: int, must: bool = True) -> bytes:
    """One system call; addresses must live until `run` has returned."""
    six = [argument & _MASK for argument in arguments] + [0] * (6 - len(arguments))
    return ROW.pack(CALL[call], MUST if must else 0, *six, _NOT_DONE)


class Calls:
    """System calls that a process makes in its own name, without any Python in between.

    Made once, by the parent of many that make them: what each of them writes of the memory that it
    shares with its parent is the results.
    """

    def __init__(self) -> None:
        self._rows: list[bytes] = []
        self._whats: list[tuple[str, str]] = []
        self._texts: dict[bytes, ctypes.Array[ctypes.c_char]] = {}
        self._table: ctypes.Array[ctypes.c_char] | None = None

    def add(self, call: str, *arguments: int | bytes | None, what: bytes) -> None:
        """One more call, of which each must succeed; `what` is its object, for people."""
        values = (self._address(a) if isinstance(a, bytes) else a or 0 for a in arguments)
        self._rows.append(row(call, *values))
        self._whats.append((call, os.fsdecode(what)))

    def _address(self, value: bytes) -> int:
        if value not in self._texts:
            self._texts[value] = ctypes.create_string_buffer(value)
        return ctypes.addressof(self._texts[value])

    def prepare(self) -> None:
        """Put the table together, for all who do it."""
        self._table = ctypes.create_string_buffer(b"".join(self._rows) + _END)

    def do(self) -> None:
        """Make the calls; OSError, naming the call and its object, for the one that failed."""
        machine = _machines["own"]
        assert machine is not None, "prepare() says whether there is one"
        assert self._table is not None, "put together by the parent"
        machine.do(ctypes.addressof(self._table))
        last = (len(self._rows) - 1) * ROW.size + _RESULT_AT
        if 0 <= struct.unpack_from("=q", self._table, last)[0] != _NOT_DONE:
            return
        for number, (call, what) in enumerate(self._whats):
            (result,) = struct.unpack_from("=q", self._table, number * ROW.size + _RESULT_AT)
            if result < 0:
                raise OSError(-result, f"{call}: {os.strerror(-result)}", what)


class Cloned(NamedTuple):
    """What came of `clone_many`."""

    child: int | None
    """In a child: which of them it is."""
    made: list[tuple[int, int]]
    """(pid, pidfd) of each, up to the one that failed."""
    error: OSError | None
    """Why that one failed."""


def clone_many(wanted: Sequence[tuple[int, int | None]]) -> Cloned:
    """Fork for each (flags, descriptor of a cgroup), with nothing between one and the next.

    What Python writes between two forks is a copy of a page that the earlier child shares with
    nobody any more: a hundred of them, 0.4 MB a child. As `clone3` without hooks, whose conditions
    hold here too: `prepare` says whether.
    """
    machine = _machines["own"]
    assert machine is not None, "prepare() says whether there is one"
    count = len(wanted)
    arguments, pidfds = (CloneArgs * count)(), (ctypes.c_int * count)()
    results = (ctypes.c_long * count)()
    for each, (flags, cgroup) in enumerate(wanted):
        arguments[each].flags = flags | CLONE_PIDFD | (0 if cgroup is None else CLONE_INTO_CGROUP)
        arguments[each].pidfd = ctypes.addressof(pidfds) + each * ctypes.sizeof(ctypes.c_int)
        arguments[each].exit_signal = 0 if flags & CLONE_PARENT else signal.SIGCHLD
        arguments[each].cgroup = cgroup or 0
    child = machine.clone(
        ctypes.addressof(arguments), ctypes.sizeof(CloneArgs), count, ctypes.addressof(results)
    )
    if child >= 0:
        return Cloned(child, [], None)
    made = [(pid, fd) for pid, fd in zip(results, pidfds, strict=True) if pid > 0]
    number = -min(results, default=0)
    if number <= 0:
        return Cloned(None, made, None)
    flags = wanted[len(made)][0]
    error = OSError(number, f"clone3: {os.strerror(number)}", f"flags {flags:#x}")
    return Cloned(None, made, error)


def run(
    rows: list[bytes], flags: int, cgroup: int | None, meanwhile: Meanwhile | None = None
) -> tuple[int, int, list[int]]:
    """Start a child that does these: (pid, pidfd, the result of each row that was done).

    The last row is an `execve`: when it succeeds it has no result. OSError when clone3 fails.
    With `meanwhile` the caller does not stand still: it is called with the child's pidfd and a
    function for the result of a row, and must not return before the child has left this memory.
    """
    machine = _machines["own"]
    assert machine is not None, "prepare() says whether there is one"
    table = ctypes.create_string_buffer(b"".join(rows) + _END)
    pidfd = ctypes.c_int(-1)
    arguments = CloneArgs(
        flags=flags
        | CLONE_PIDFD
        | CLONE_VM
        | (CLONE_VFORK if meanwhile is None else 0)
        | CLONE_CLEAR_SIGHAND
        | (0 if cgroup is None else CLONE_INTO_CGROUP),
        pidfd=ctypes.addressof(pidfd),
        exit_signal=0 if flags & CLONE_PARENT else signal.SIGCHLD,
        stack=machine.stack,
        stack_size=STACK_BYTES,
        cgroup=cgroup or 0,
    )
    pid = machine.call(
        ctypes.addressof(arguments), ctypes.sizeof(arguments), ctypes.addressof(table)
    )
    if pid < 0:
        raise OSError(-pid, f"clone3: {os.strerror(-pid)}", f"flags {flags:#x}")

    def result_of(number: int) -> int | None:
        (result,) = struct.unpack_from("=q", table, number * ROW.size + _RESULT_AT)
        return None if result == _NOT_DONE else int(result)

    if meanwhile is not None:
        meanwhile(pidfd.value, result_of)
    results = []
    for number in range(len(rows)):
        result = result_of(number)
        if result is None:
            break
        results.append(result)
    return pid, pidfd.value, results
