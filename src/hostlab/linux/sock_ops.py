"""TCP congestion control of a cgroup's sockets, by a program of the kind BPF_PROG_TYPE_SOCK_OPS.

The kernel has the setting for a socket (TCP_CONGESTION) and for a network namespace, for nothing
between. A program at a cgroup is called when one of its sockets connects or listens, and sets it
there; what is accepted inherits it from its listener. The program goes with the cgroup.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Final

from hostlab.errors import Unsupported
from hostlab.linux.libc import syscall

AVAILABLE: Final = "/proc/sys/net/ipv4/tcp_available_congestion_control"
NAME_BYTES: Final = 16
"""TCP_CA_NAME_MAX, with its final zero."""
BPF_PROG_LOAD: Final = 5
BPF_PROG_ATTACH: Final = 8
BPF_PROG_TYPE_SOCK_OPS: Final = 13
BPF_CGROUP_SOCK_OPS: Final = 3
BPF_F_ALLOW_MULTI: Final = 2
CONNECT_CB, LISTEN_CB = 3, 11
"""enum in linux/bpf.h, BPF_SOCK_OPS_TCP_…."""
SETSOCKOPT: Final = 49
IPPROTO_TCP: Final = 6
TCP_CONGESTION: Final = 13
_ATTRIBUTE_BYTES: Final = 72


def set_congestion(cgroup: int, algorithm: str) -> None:
    """Have the TCP sockets that processes in this v2 cgroup make use an algorithm.

    Linux 4.13 with CONFIG_CGROUP_BPF; CAP_NET_ADMIN and CAP_BPF over the machine, so never inside
    a lab's user namespace. `Unsupported` where that is missing, or the algorithm.
    """
    with open(AVAILABLE) as names:
        known = names.read().split()
    if algorithm not in known:
        raise Unsupported(
            "tcp-congestion",
            f"this kernel has no TCP congestion control {algorithm}",
            hint=f"it has {', '.join(known)}",
        )
    try:
        program = _load(_program(algorithm))
        try:
            attach = struct.pack("=4I", cgroup, program, BPF_CGROUP_SOCK_OPS, BPF_F_ALLOW_MULTI)
            _bpf(BPF_PROG_ATTACH, attach)
        finally:
            os.close(program)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOSYS, errno.EINVAL):
            raise
        raise Unsupported(
            "tcp-congestion",
            f"a job's own TCP congestion control needs BPF here: {os.strerror(error.errno)}",
            hint="inside a lab `sysctls: {net.ipv4.tcp_congestion_control: …}` sets a whole node's",
        ) from None


def _program(algorithm: str) -> bytes:
    name = algorithm.encode()[: NAME_BYTES - 1]
    words = struct.unpack("=4i", name.ljust(NAME_BYTES, b"\0"))
    set_it = [
        *(_instruction(0x62, 10, 0, -NAME_BYTES + 4 * n, word) for n, word in enumerate(words)),
        _instruction(0xBF, 1, 6),  # r1 = context
        _instruction(0xB7, 2, value=IPPROTO_TCP),
        _instruction(0xB7, 3, value=TCP_CONGESTION),
        _instruction(0xBF, 4, 10),  # r4 = the name on the stack
        _instruction(0x07, 4, value=-NAME_BYTES),
        _instruction(0xB7, 5, value=len(name)),
        _instruction(0x85, value=SETSOCKOPT),
    ]
    return b"".join(
        (
            _instruction(0xBF, 6, 1),  # r6 = context
            _instruction(0x61, 2, 1),  # r2 = context->op
            _instruction(0x15, 2, offset=1, value=CONNECT_CB),
            _instruction(0x55, 2, offset=len(set_it), value=LISTEN_CB),
            *set_it,
            _instruction(0xB7, 0, value=1),
            _instruction(0x95),
        )
    )


def _instruction(code: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    """struct bpf_insn: https://docs.kernel.org/bpf/standardization/instruction-set.html."""
    return struct.pack("=BBhi", code, to | source << 4, offset, value)


def _load(program: bytes) -> int:
    instructions = ctypes.create_string_buffer(program, len(program))
    license_text = ctypes.create_string_buffer(b"Apache-2.0")
    attributes = struct.pack(
        "=IIQQ",
        BPF_PROG_TYPE_SOCK_OPS,
        len(program) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(license_text),
    )
    return _bpf(BPF_PROG_LOAD, attributes)


def _bpf(what: int, attributes: bytes) -> int:
    data = attributes.ljust(_ATTRIBUTE_BYTES, b"\0")
    return syscall("bpf", what, data, len(data), what="congestion control")
