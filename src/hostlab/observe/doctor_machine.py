"""Probes of the machine itself: programs, limits that labs share, virtual machines."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import resource
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from hostlab.observe.finding import Finding, State, tried

PROGRAMS: Final = (
    ("ip", "iproute2", "looking into a node by hand"),
    ("nft", "nftables", "firewalls"),
    ("tcpdump", "tcpdump", "filter expressions of `capture`"),
    ("wireshark", "wireshark", "looking at captures"),
    ("newuidmap", "uidmap", "more than one user in a node without root"),
    ("runc", "runc", "making OCI bundles by `runc spec`, and comparing with it"),
    ("qemu-system-x86_64", "qemu-system-x86", "vm nodes"),
)
"""A program, the Debian package that has it, and what it is for."""

_SEARCH = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
_KVM_CREATE_VM, _KVM_GET_VCPU_MMAP_SIZE = 0xAE01, 0xAE04
_KVM_CREATE_VCPU, _KVM_SET_TSS_ADDR, _KVM_RUN = 0xAE41, 0xAE47, 0xAE80
_KVM_SET_USER_MEMORY_REGION = 0x4020AE46
_KVM_EXIT_HLT, _EXIT_REASON_OFFSET = 5, 8
_TSS_ADDRESS = 0x7FFBD000
"""Three pages that older Intel processors need and that nothing else of the guest is at."""


def _number(path: str) -> int | None:
    try:
        text = Path(path).read_text().split()
        return int(text[0])
    except (OSError, ValueError, IndexError):
        return None


def programs() -> Iterator[Finding]:
    """Programs that hostlab or its user calls; none is needed for a lab."""
    for program, package, purpose in PROGRAMS:
        path = shutil.which(program, path=_SEARCH)
        if path:
            yield Finding("programs", program, State.OK, path)
        else:
            remedy = f"apt-get install {package}"
            yield Finding("programs", program, State.MISSING, f"for {purpose}", remedy)


class _Limit:
    """A limit that all labs of the machine share, and from where on it is no hindrance."""

    def __init__(self, name: str, path: str, enough: int, effect: str) -> None:
        self.name = name
        self.path = path
        self.enough = enough
        self.effect = effect

    @property
    def sysctl(self) -> str:
        """The limit as sysctl(8) names it."""
        return self.path.removeprefix("/proc/sys/").replace("/", ".")


_LIMITS: Final = (
    _Limit("inotify instances", "/proc/sys/fs/inotify/max_user_instances", 1024,
           "one a supervisor, shared with all user namespaces of this user"),
    _Limit("inotify watches", "/proc/sys/fs/inotify/max_user_watches", 65_536,
           "shared with all user namespaces of this user"),
    _Limit("IPv4 neighbours", "/proc/sys/net/ipv4/neigh/default/gc_thresh3", 16_384,
           "machine-wide; a lab installs its own as externally learned, which do not count"),
    _Limit("IPv6 neighbours", "/proc/sys/net/ipv6/neigh/default/gc_thresh3", 16_384,
           "machine-wide; a lab installs its own as externally learned, which do not count"),
    _Limit("processes", "/proc/sys/kernel/pid_max", 32_768, "machine-wide"),
    _Limit("pseudo-terminals", "/proc/sys/kernel/pty/max", 1024, "one a shell or `exec` with tty"),
    _Limit("keys", "/proc/sys/kernel/keys/maxkeys", 200, "a user's; OCI tools make one a node"),
)  # fmt: skip


def limits() -> Iterator[Finding]:
    """What one lab takes from another, or from the machine."""
    for limit in _LIMITS:
        value = _number(limit.path)
        if value is None:
            yield Finding("limits", limit.name, State.LIMITED, f"{limit.path} is not readable here")
        elif value < limit.enough:
            remedy = f"sysctl {limit.sysctl}={limit.enough}"
            yield Finding("limits", limit.name, State.LIMITED, f"{value}: {limit.effect}", remedy)
        else:
            yield Finding("limits", limit.name, State.OK, str(value))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = 4096  # a hub keeps three descriptors a node
    state = State.OK if hard >= enough or hard == resource.RLIM_INFINITY else State.LIMITED
    remedy = "" if state is State.OK else f"ulimit -Hn {enough}, or LimitNOFILE= of the session"
    yield Finding("limits", "open files", state, f"{soft}, up to {hard}", remedy)
    yield from _processes_of_user()


def _processes_of_user() -> Iterator[Finding]:
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft == resource.RLIM_INFINITY or soft >= 4096:
        shown = "no limit" if soft == resource.RLIM_INFINITY else str(soft)
        yield Finding("limits", "processes of this user", State.OK, shown)
    else:
        yield Finding("limits", "processes of this user", State.LIMITED, str(soft),
                      "ulimit -u 4096, or limits.conf(5)")  # fmt: skip


def _run_a_guest() -> int:
    """Let a guest of one instruction, HLT, run; the reason for which it came back.

    A processor begins at 0xfffffff0 in real mode (Intel SDM 3A, 10.1.4), so one page at the top
    of the first 4 GiB is all the memory it needs.
    """
    kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    machine = fcntl.ioctl(kvm, _KVM_CREATE_VM, 0)
    fcntl.ioctl(machine, _KVM_SET_TSS_ADDR, _TSS_ADDRESS)
    memory = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
    memory[:] = b"\xf4" * mmap.PAGESIZE
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    guest = 2**32 - mmap.PAGESIZE
    region = struct.pack("=IIQQQ", 0, 0, guest, mmap.PAGESIZE, address)
    fcntl.ioctl(machine, _KVM_SET_USER_MEMORY_REGION, region)
    processor = fcntl.ioctl(machine, _KVM_CREATE_VCPU, 0)
    state = mmap.mmap(processor, fcntl.ioctl(kvm, _KVM_GET_VCPU_MMAP_SIZE, 0), mmap.MAP_SHARED)
    fcntl.ioctl(processor, _KVM_RUN, 0)
    (reason,) = struct.unpack_from("=I", state, _EXIT_REASON_OFFSET)
    return int(reason)


def virtual_machines() -> Iterator[Finding]:
    """Whether a vm node would run on the processor or be emulated."""
    lost = "vm nodes are emulated, about ten times slower"
    remedy = "nested virtualisation switched on, or a machine with it"
    if os.uname().machine != "x86_64":
        state = State.LIMITED if os.access("/dev/kvm", os.R_OK | os.W_OK) else State.MISSING
        yield Finding("vm", "KVM", state, "/dev/kvm is looked at only on this architecture", remedy)
        return
    outcome = tried(_run_a_guest)
    if outcome.is_ok and outcome.value == _KVM_EXIT_HLT:
        yield Finding("vm", "KVM", State.OK, "a guest ran one instruction")
        return
    what = outcome.error or f"the guest came back for reason {outcome.value}, not for its HLT"
    if outcome.number == errno.EACCES:
        remedy = f"usermod --append --groups kvm {os.getuid()}, and log in anew"
    yield Finding("vm", "KVM", State.MISSING, f"{what}; {lost}", remedy)


PROBES: Final[tuple[Callable[[], Iterator[Finding]], ...]] = (programs, limits, virtual_machines)
