"""Compiled profiles, run here as the kernel runs them, for architectures that are not here."""

from __future__ import annotations

import errno
import json
import os
import struct

import pyseccomp
import pytest

from hostlab.linux import seccomp, seccomp_profile
from hostlab.linux.seccomp_profile import AF_VSOCK, DENIED, TIOCSTI

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of another architecture"),
]

X86_64, I386, X32_BIT = 0xC000003E, 0x40000003, 0x40000000
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
LD_ABS, ALU_AND, JA, JEQ, JGT, JGE, RET = 0x20, 0x54, 0x05, 0x15, 0x25, 0x35, 0x06
MISC_TAX, LD_MEM, ST, JSET = 0x07, 0x60, 0x02, 0x45


def answer(program: bytes, arch: int, number: int, *arguments: int) -> int:
    """What the program returns for one struct seccomp_data (linux/seccomp.h)."""
    padded = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("=iIQ6Q", number, arch, 0, *padded)
    code = list(struct.iter_unpack("=HBBI", program))
    place, accumulator = 0, 0
    memory = [0] * 16
    for _ in range(len(code)):
        operation, if_true, if_false, operand = code[place]
        place += 1
        if operation == LD_ABS:
            (accumulator,) = struct.unpack_from("=I", data, operand)
        elif operation == ALU_AND:
            accumulator &= operand
        elif operation == LD_MEM:
            accumulator = memory[operand]
        elif operation == ST:
            memory[operand] = accumulator
        elif operation == JA:
            place += operand
        elif operation == RET:
            return int(operand)
        else:
            tests = {
                JEQ: accumulator == operand,
                JGT: accumulator > operand,
                JGE: accumulator >= operand,
                JSET: bool(accumulator & operand),
            }
            place += if_true if tests[operation] else if_false
    raise AssertionError("the program does not end")


@pytest.fixture(scope="module")
def default() -> bytes:
    return seccomp.compile_profile("default")


@pytest.mark.parametrize(
    ("error", "name"), [(error, name) for error, names in DENIED for name in names]
)
def test_every_call_of_the_list_is_denied_in_both_word_sizes(
    default: bytes, error: int, name: str
) -> None:
    numbers = {
        arch: pyseccomp.resolve_syscall(kind, name)
        for arch, kind in ((X86_64, pyseccomp.Arch.X86_64), (I386, pyseccomp.Arch.X86))
    }
    here = {arch: number for arch, number in numbers.items() if number >= 0}
    if name.startswith("pciconfig"):
        assert not here, "calls of other architectures"
    for arch, number in here.items():
        assert answer(default, arch, number) == ERRNO | error


def test_the_rest_is_allowed(default: bytes) -> None:
    for name in ("read", "clone", "unshare", "mount", "ptrace", "setns", "execve"):
        number = pyseccomp.resolve_syscall(pyseccomp.Arch.X86_64, name)
        assert answer(default, X86_64, number) == ALLOW


def test_other_numberings_lead_nowhere(default: bytes) -> None:
    clock_settime = pyseccomp.resolve_syscall(pyseccomp.Arch.X86_64, "clock_settime")
    assert answer(default, X86_64, X32_BIT | clock_settime) == ERRNO | errno.ENOSYS
    assert answer(default, 0xC00000B7, 1) == ERRNO | errno.ENOSYS


def test_arguments_are_compared_as_the_kernel_sees_them(default: bytes) -> None:
    ioctl, socket = 16, 41
    for high in (0, 1 << 32):
        assert answer(default, X86_64, ioctl, 0, high | TIOCSTI) == ERRNO | errno.EPERM
        assert answer(default, X86_64, socket, high | AF_VSOCK) == ERRNO | errno.EAFNOSUPPORT
    assert answer(default, X86_64, ioctl, 0, 0x5413) == ALLOW
    assert answer(default, X86_64, socket, 2) == ALLOW


def test_the_tree_decides_as_the_list_does(default: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """libseccomp sorts the rules into a tree; one by one they are longer, and say the same."""
    monkeypatch.setattr(seccomp_profile, "OPTIMIZE_TREE", 1)
    listed = seccomp_profile._exported(seccomp_profile._default_filter(pyseccomp))
    assert default != listed
    plain = [(number, ()) for number in (*range(480), *range(X32_BIT, X32_BIT + 480))]
    looked_at = [(0, TIOCSTI), (0, 1 << 32 | TIOCSTI), (AF_VSOCK,), (2, 0x5413)]
    # ioctl(2), socket(2) and socketcall(2) of both word sizes, and their neighbours.
    told = [(number, words) for number in (15, 16, 41, 54, 102, 359) for words in looked_at]
    for arch in (X86_64, I386, 0xC00000B7):
        for number, words in (*plain, *told):
            decided = [answer(program, arch, number, *words) for program in (default, listed)]
            assert decided[0] == decided[1], (hex(arch), number, words)


def test_docker_adds_the_sub_architectures_of_this_one() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
        ],
        "syscalls": [{"names": ["getpid"], "action": "SCMP_ACT_ALLOW", "args": None}],
    }
    program = seccomp.compile_profile(json.dumps(profile))
    assert answer(program, X86_64, 39) == ALLOW
    assert answer(program, I386, 20) == ALLOW
    assert answer(program, X86_64, 0) == ERRNO | errno.EPERM
    assert answer(program, X86_64, 40) == ERRNO | errno.ENOSYS
    assert answer(program, X86_64, X32_BIT | 39) == 0x00000000, "killed: not in the profile"


def test_what_no_namespace_bounds_is_on_the_list() -> None:
    denied = {name for _, names in DENIED for name in names}
    assert denied >= {
        *("syslog", "reboot", "acct", "quotactl", "swapon", "swapoff", "open_by_handle_at"),
        *("settimeofday", "clock_settime", "clock_settime64", "adjtimex", "clock_adjtime"),
        *("kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module"),
        *("iopl", "ioperm", "bpf", "perf_event_open", "userfaultfd"),
        *("add_key", "request_key", "keyctl"),
    }
    assert not denied & {"ptrace", "unshare", "clone", "clone3", "setns", "mount", "pivot_root"}
