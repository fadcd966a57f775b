"""What a node does not reproduce of a real host: the list to read before trusting a result.

Partly the same for every node that shares the machine's kernel, partly computed from the node's
description and from what this machine grants the lab.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import ClassVar

import msgspec

from hostlab.linux import cgroups
from hostlab.linux.capabilities import NAMES
from hostlab.linux.seccomp_profile import DENIED
from hostlab.observe import doctor_isolation
from hostlab.observe.capability_uses import MACHINE_ONLY, USES
from hostlab.observe.finding import Finding, State
from hostlab.spec.model import Node, RootKind

_VM = "a vm node"


class Circumstances(msgspec.Struct, frozen=True, kw_only=True):
    """What this machine grants a lab, as far as it changes what a node is."""

    release: str
    """Of the kernel."""
    is_rootless: bool
    has_uid_range: bool
    """Whether a node has more users than root."""
    controllers: tuple[str, ...]
    """The cgroup controllers that can bound a node."""
    has_cgroup: bool
    has_apparmor: bool = False
    masked_paths: tuple[str, ...] = ()
    """What staging hides in every node (`lab.rootfs.MASKED`)."""
    readonly_paths: tuple[str, ...] = ()
    impaired: tuple[tuple[str, str], ...] = ()
    """An interface of the node, and how its impairments are brought about."""


class Difference(msgspec.Struct, frozen=True):
    """One thing that is not as on a real host."""

    COLUMNS: ClassVar = ("topic", "in the node", "on a real host", "remedy")

    topic: str
    here: str
    there: str
    remedy: str = ""
    """What in the description changes it; empty when nothing does."""

    def row(self) -> tuple[str, ...]:
        """The cells under `COLUMNS`."""
        return (self.topic, self.here, self.there, self.remedy)


def circumstances(
    *,
    masked_paths: tuple[str, ...] = (),
    readonly_paths: tuple[str, ...] = (),
    impaired: tuple[tuple[str, str], ...] = (),
) -> Circumstances:
    """Those of the caller on this machine, now; tries what `doctor` tries."""
    found = cgroups.find()
    ranges: tuple[Finding, ...] = tuple(doctor_isolation.uid_ranges())
    unified: tuple[str, ...] = ()
    if found.unified:
        with open(f"{found.unified}/cgroup.controllers") as file:
            unified = tuple(file.read().split())
    return Circumstances(
        release=os.uname().release,
        is_rootless=os.geteuid() != 0,
        has_uid_range=all(one.state is not State.MISSING for one in ranges),
        controllers=tuple(
            name for name in cgroups.CONTROLLERS if name in unified or name in found.v1
        ),
        has_cgroup=found.unified is not None,
        has_apparmor=os.path.exists("/sys/kernel/security/apparmor"),
        masked_paths=masked_paths,
        readonly_paths=readonly_paths,
        impaired=impaired,
    )


def differences(node: Node, here: Circumstances) -> tuple[Difference, ...]:
    """Everything that this node does not reproduce of a real host, by topic."""
    parts = (
        _kernel,
        _clock,
        _files,
        _devices,
        _users,
        _capabilities,
        _calls,
        _limits,
        _services,
        _network,
        _shared,
    )
    return tuple(one for part in parts for one in part(node, here))


def _kernel(_node: Node, here: Circumstances) -> Iterator[Difference]:
    yield Difference(
        "kernel",
        f"the machine's Linux {here.release}, shared with all nodes",
        "its own, of its own version; a crash of it is its own",
        _VM,
    )
    yield Difference("modules", "those the machine has loaded; none can be loaded", "modprobe", _VM)
    yield Difference(
        "sysctl",
        "net.* and its own host name are the node's; the rest is the machine's and "
        "cannot be written",
        "all can be set",
        f"sysctls: of the description, or {_VM}",
    )
    yield Difference(
        "kernel log", "neither read nor written: dmesg and /dev/kmsg are refused", "dmesg", _VM
    )
    yield Difference(
        "panic, reboot, suspend",
        "stopping PID 1 ends the node; reboot(2) is refused",
        "the machine restarts",
        "hostlab down and up, or " + _VM,
    )


def _clock(node: Node, _here: Circumstances) -> Iterator[Difference]:
    wall = "the machine's; it cannot be set, so no NTP client can be tested"
    yield Difference("wall clock", wall, "its own, with its own drift", _VM)
    if node.time_offset_s is None:
        yield Difference(
            "uptime",
            "the machine's: monotonic and boot time are not the node's own",
            "begins with the host",
            "time_offset: of the description",
        )
    else:
        yield Difference(
            "uptime",
            f"the machine's, shifted by {node.time_offset_s:g} s",
            "begins with the host",
        )


def _files(node: Node, here: Circumstances) -> Iterator[Difference]:
    if node.root.kind is RootKind.MACHINE:
        yield Difference(
            "files",
            "the machine's own, under an overlay: its packages and its configuration",
            "its own installation",
            "root: a directory or an OCI bundle",
        )
    if node.root.readonly:
        yield Difference(
            "files",
            "nothing can be written",
            "its disks are writable",
            "a root that is not readonly",
        )
    elif not node.root.writable:
        yield Difference(
            "disk",
            "what is written lasts until `down`; its size is "
            + (f"{node.limits.disk} bytes" if node.limits.disk else "what the machine has free"),
            "lasts, and has its own size",
            "volumes: for what must last; limits: disk:",
        )
    yield Difference(
        "/sys",
        "read-only, with the machine's devices; /sys/class/net is its own",
        "its own hardware",
        _VM,
    )
    masked = (*here.masked_paths, *node.masked_paths)
    if masked:
        yield Difference("hidden paths", ", ".join(masked), "can be read", _VM)
    readonly = (*here.readonly_paths, *node.readonly_paths)
    if readonly:
        yield Difference("read-only paths", ", ".join(readonly), "can be written by root", _VM)
    yield Difference(
        "/proc",
        "meminfo, cpuinfo, loadavg, stat, uptime are the machine's: free, top and nproc "
        "do not show the node's limits",
        "its own",
        _VM,
    )


def _devices(_node: Node, _here: Circumstances) -> Iterator[Difference]:
    yield Difference(
        "devices",
        "null, zero, full, random, urandom, tty, pts and net/tun; none can be made",
        "disks, USB, serial lines, sound, a watchdog",
        _VM,
    )
    yield Difference(
        "uevents",
        "none from the kernel reach the node, so udev sees nothing come or go",
        "udev and hot plugging",
        _VM,
    )


def _users(_node: Node, here: Circumstances) -> Iterator[Difference]:
    if not here.has_uid_range:
        yield Difference(
            "users",
            "one, root, who is you outside: chown, su and daemons that change their user fail",
            "65,536 and more",
            "apt-get install uidmap, and a range in /etc/subuid",
        )
    else:
        yield Difference(
            "users",
            "its own, mapped to a range of the machine's: root is not root outside",
            "root is root",
        )


def _capabilities(node: Node, _here: Circumstances) -> Iterator[Difference]:
    held = set(node.capabilities)
    for name in NAMES:
        if name not in held:
            remedy = _VM if name in MACHINE_ONLY else f"capabilities: add {name}"
            yield Difference(f"CAP_{name}", "missing", USES[name], remedy)
        elif name in MACHINE_ONLY:
            yield Difference(
                f"CAP_{name}",
                "held, but the kernel wants it in the machine's user namespace",
                USES[name],
                _VM,
            )
    if node.no_new_privs:
        yield Difference(
            "no_new_privs",
            "set-uid programs and file capabilities give nothing: no su, no sudo",
            "they do",
            "no_new_privs: false",
        )


def _calls(node: Node, here: Circumstances) -> Iterator[Difference]:
    if node.seccomp == "default":
        names = ", ".join(name for _, group in DENIED for name in group)
        yield Difference(
            "system calls", f"refused: {names}", "only capabilities decide", "seccomp: unconfined"
        )
    elif node.seccomp != "unconfined":
        yield Difference(
            "system calls",
            "those that the node's own profile allows",
            "only capabilities decide",
            "seccomp: unconfined",
        )
    if not here.has_apparmor:
        yield Difference(
            "AppArmor",
            "no profile is in force",
            "Debian's profiles confine services",
            f"a kernel with AppArmor, or {_VM}",
        )


def _limits(node: Node, here: Circumstances) -> Iterator[Difference]:
    if not here.has_cgroup and not here.controllers:
        yield Difference(
            "bounds",
            doctor_isolation.UNBOUNDED,
            "its hardware is its bound",
            "delegate a cgroup: systemd-run --user --scope -p Delegate=yes",
        )
    limits = node.limits
    wanted = {
        "memory": limits.memory,
        "cpu": limits.cpu,
        "cpuset": limits.cpus,
        "pids": limits.pids,
    }
    for controller, value in wanted.items():
        if value is not None and controller not in here.controllers:
            yield Difference(
                controller,
                f"the limit of {value} is not in force: no {controller} controller",
                "its hardware is its bound",
                "see `hostlab doctor`, cgroups",
            )
        elif value is None and controller in ("memory", "cpu"):
            yield Difference(
                controller,
                "all that the machine has, shared with every other node",
                "its own",
                f"limits: {controller}:",
            )


def _services(_node: Node, _here: Circumstances) -> Iterator[Difference]:
    yield Difference(
        "PID 1",
        "hostlab's holder: no systemd, so no systemctl, journalctl, logind, timers",
        "systemd, or another init",
        "jobs: of the description",
    )
    yield Difference("boot", "none: no firmware, boot loader, initramfs, fsck", "all of them", _VM)


def _network(node: Node, here: Circumstances) -> Iterator[Difference]:
    if any(kind == "net" for kind, _ in node.namespaces):
        yield Difference(
            "network", "another node's, shared on purpose", "its own", "namespaces: without net"
        )
        return
    yield Difference(
        "interfaces",
        "one end of a veth: no speed, no autonegotiation, no cable, no VLAN offload, "
        "checksums are not filled in; captures show them as wrong",
        "a network card",
        _VM,
    )
    yield Difference(
        "delay and loss",
        "none but what the processor adds: a segment is as fast as memory",
        "that of its links",
        "impair: of a segment or an interface",
    )
    for name, how in here.impaired:
        yield Difference(f"impairments of {name}", how, "those of its links")
    yield Difference(
        "neighbours",
        "installed by the lab; ARP and neighbour discovery find them known, and the "
        "table's size is one for the machine",
        "learned, and its own size",
    )


def _shared(node: Node, _here: Circumstances) -> Iterator[Difference]:
    for kind, other in node.namespaces:
        if kind != "net":
            yield Difference(
                f"{kind} namespace", f"that of {other}", "its own", f"namespaces: without {kind}"
            )
    yield Difference(
        "shared tables",
        "inotify instances, keys, pseudo-terminals and open files count against "
        "the machine's or the user's limits",
        "its own",
        "see `hostlab doctor`, limits",
    )
