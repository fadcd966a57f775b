"""A node's files: full, read-only, one too many, and those by which it resolves names.

What a node sees is changed by mounts in its own mount namespace, which are taken away again; they
are known by their name, which has the fault's number. From a child that is in a node's mount
namespace and not in its PID namespace /proc tells nothing, so mounts are read from outside.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from typing import Final, NamedTuple

from hostlab.errors import Failed, Unsupported, UsageError
from hostlab.faults import filters
from hostlab.faults.site import Site, State
from hostlab.linux.libc import mount, umount2
from hostlab.linux.mounts import MNT_DETACH, MS_REMOUNT, bind, make_readonly, make_writable
from hostlab.spec.faults import option
from hostlab.spec.model import Fault
from hostlab.spec.mount_options import mount_flags

MOST_FILLED_BYTES: Final = 256 << 20
"""What is filled is the machine's memory."""
HOSTS: Final = "/etc/hosts"
RESOLVER: Final = "/etc/resolv.conf"
SWITCH: Final = "/etc/nsswitch.conf"
NOBODY: Final = "127.53.53.53"
"""The name server that does not answer: a loopback address, whose packets the node drops."""


class Mounted(NamedTuple):
    """A line of mountinfo."""

    root: str
    target: str
    options: tuple[str, ...]
    type: str


def mounts_of(pid: int) -> list[Mounted]:
    """What is mounted where a process lives, in the order of its mounting; proc(5)."""
    found = []
    with open(f"/proc/{pid}/mountinfo", errors="surrogateescape") as lines:
        for line in lines:
            left, _, right = line.partition(" - ")
            _, _, _, root, target, options = left.split(" ")[:6]
            path = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), target)
            found.append(Mounted(root, path, tuple(options.split(",")), right.split(" ")[0]))
    return found


def _holding(pid: int, path: str) -> Mounted:
    """The mount that a path is on: of the longest ones that lead to it, the last."""
    way = f"{path.rstrip('/')}/"
    fitting = [m for m in mounts_of(pid) if way.startswith(f"{m.target.rstrip('/')}/")]
    return max(enumerate(fitting), key=lambda each: (len(each[1].target), each[0]))[1]


def _mount_of(site: Site, node: str, path: str) -> Mounted:
    """What a path of a node is on; UsageError when there is no such path."""
    if not site.in_files(node, lambda: os.path.exists(path)):
        raise UsageError("fault", f"node {node} has no {path}")
    return _holding(site.pid(node), path)


def name_of(number: int) -> str:
    """By which what a fault adds among a node's files is known again."""
    return f".hostlab-fault-{number}"


def look_full(site: Site, fault: Fault, number: int) -> State:
    """A tmpfs is made small, where it is one; else what is free is filled, if that is little."""
    path = option(fault, "path")
    found = _mount_of(site, fault.on, path)

    def work() -> tuple[int, int, int, int]:
        there = os.statvfs(path)
        return there.f_blocks, there.f_bfree, there.f_bavail, there.f_frsize

    total, free, available, unit = site.in_files(fault.on, work)
    file = f"{found.target.rstrip('/')}/{name_of(number)}"
    state: State = {"file": file, "bytes": unit, "life": site.life(fault.on)}
    if "ro" in found.options:
        raise Failed("fault", f"{found.target} of node {fault.on} is read-only already")
    if not total:
        message = f"{found.target} of node {fault.on} is a {found.type}, which cannot be full"
        raise UsageError("fault", message)
    if found.type == "tmpfs":
        return state | {
            "mount": found.target,
            "flags": mount_flags(found.options).flags,
            "size": total * unit,
            "small": (total - free + 1) * unit,
        }
    if available * unit > MOST_FILLED_BYTES:
        message = (
            f"{path} of node {fault.on} has {available * unit >> 20} MiB free, all of it memory"
        )
        hint = "bound it with `limits: {disk: 64M}`, or fill a tmpfs: `path=/tmp`"
        raise UsageError("fault", message, hint=hint)
    return state | {"bytes": available * unit}


def fill(site: Site, fault: Fault, state: State) -> None:
    """A file takes what is left."""

    def work() -> None:
        fd = os.open(state["file"], os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if state["bytes"]:
                os.posix_fallocate(fd, 0, state["bytes"])
        finally:
            os.close(fd)
        if "mount" in state:
            _resize(state, state["small"])

    site.in_files(fault.on, work)


def empty(site: Site, fault: Fault, state: State) -> None:
    """The file goes, and the tmpfs is as large as it was."""
    if not site.is_alive(fault.on, state["life"]):
        return

    def work() -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(state["file"])
        if "mount" in state:
            _resize(state, state["size"])

    site.in_files(fault.on, work)


def _resize(state: State, size_bytes: int) -> None:
    target, options = state["mount"].encode(), f"size={size_bytes}".encode()
    mount(b"tmpfs", target, b"tmpfs", MS_REMOUNT | state["flags"], options)


def look_readonly(site: Site, fault: Fault, number: int) -> State:
    """The mount that the path is on."""
    found = _mount_of(site, fault.on, option(fault, "path"))
    if "ro" in found.options:
        raise Failed("fault", f"{found.target} of node {fault.on} is read-only already")
    return {"mount": found.target, "life": site.life(fault.on)}


def make_files_readonly(site: Site, fault: Fault, state: State) -> None:
    """EROFS from now on; Failed while something there is open for writing."""
    try:
        site.in_files(fault.on, lambda: make_readonly(state["mount"].encode()))
    except OSError as error:
        message = f"{state['mount']} of node {fault.on} cannot become read-only: {error.strerror}"
        hint = "a process has a file there open for writing; `path=` names another file system"
        raise Failed("fault", message, hint=hint) from None


def make_files_writable(site: Site, fault: Fault, state: State) -> None:
    """As it was."""
    if site.is_alive(fault.on, state["life"]):
        site.in_files(fault.on, lambda: make_writable(state["mount"].encode()))


def look_present(site: Site, fault: Fault, number: int) -> State:
    """Refuse where the file is there, or can never be."""
    path = option(fault, "path")
    directory = os.path.dirname(path)
    found = site.in_files(fault.on, lambda: (os.path.lexists(path), os.path.isdir(directory)))
    if found[0]:
        raise Failed("fault", f"{path} of node {fault.on} is there already")
    if not found[1]:
        raise UsageError("fault", f"node {fault.on} has no directory {directory}")
    return {"path": path, "whole": f"{directory.rstrip('/')}/{name_of(number)}"}


def make_present(site: Site, fault: Fault, state: State) -> None:
    """At once and with its content, by which it is known again.

    The other name stays: who is told by inotify sees by the two links that nobody is still writing
    to the file, and a link alone is never told to be closed.
    """

    def work() -> None:
        with open(state["whole"], "x") as file:
            file.write(state["whole"])
        os.link(state["whole"], state["path"])

    site.in_files(fault.on, work)


def make_absent(site: Site, fault: Fault, state: State) -> None:
    """Take it away, unless it is another's."""

    def work() -> None:
        if _text(state["path"]) == state["whole"]:
            os.unlink(state["path"])
        with contextlib.suppress(FileNotFoundError):
            os.unlink(state["whole"])

    site.in_files(fault.on, work)


def look_names(site: Site, fault: Fault, number: int) -> State:
    """The files that are shown instead of the node's own."""
    site.pid(fault.on)
    places = (HOSTS,) if fault.kind == "dns-wrong" else (SWITCH, RESOLVER)

    def work() -> dict[str, str | None]:
        return {place: _text(place) for place in places}

    texts: dict[str, str | None] = site.in_files(fault.on, work)
    if missing := [place for place, text in texts.items() if text is None]:
        message = f"node {fault.on} has no {missing[0]}, by which its names are resolved"
        raise Unsupported("names", message)
    shown = {place: _changed(fault, place, text or "") for place, text in texts.items()}
    return {"name": name_of(number), "shown": shown, "table": f"hostlab_fault_{number}"}


def _text(path: str) -> str | None:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return None


def _changed(fault: Fault, place: str, text: str) -> str:
    match place:
        case "/etc/hosts":
            name, address = option(fault, "name"), option(fault, "address")
            kept = [line for line in map(_words, text.splitlines()) if line]
            others = [[w for w in line if w.lower() != name] for line in kept]
            lines = [f"{address}\t{name}", *("\t".join(o) for o in others if len(o) > 1)]
            return "\n".join(lines) + "\n"
        case "/etc/resolv.conf":
            seconds = option(fault, "delay")
            return f"nameserver {NOBODY}\noptions timeout:{seconds} attempts:1\n"
        case _:
            rest = [line for line in text.splitlines() if not line.startswith("hosts:")]
            return "\n".join(["hosts: dns files", *rest]) + "\n"


def _words(line: str) -> list[str]:
    return line.partition("#")[0].split()


def show(site: Site, fault: Fault, state: State) -> None:
    """Mount them over the node's own; for a delay, have nobody answer where names are asked."""

    def work() -> None:
        for place, text in state["shown"].items():
            cover(place, state["name"], text.encode(), mode=0o644)

    if fault.kind == "dns-slow":
        rule = f"iifname lo ip daddr {NOBODY} udp dport 53 counter drop"
        chain = f"type filter hook input priority -400; policy accept;\n{rule}"
        table = f"table inet {state['table']} {{\nchain names {{\n{chain}\n}}\n}}\n"
        filters.load(site.pid(fault.on), table)
    site.in_files(fault.on, work)


def cover(
    place: str, name: str, data: bytes, *, mode: int, owner: tuple[int, int] | None = None
) -> None:
    """Mount a file with this content over another, for a child among a node's files; OSError.

    Nobody else can open it before its mode and its (uid, gid) are what is wanted.
    """
    path = f"/run/{name}"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
        if owner is not None:
            os.fchown(fd, *owner)
        os.fchmod(fd, mode)
    bind(path.encode(), place.encode())
    os.unlink(path)


def uncover(site: Site, node: str, name: str) -> None:
    """Take away what `cover` has mounted by this name, and nothing else."""
    found = mounts_of(site.pid(node))
    ours = [m.target for m in found if m.root.removesuffix("//deleted").endswith(f"/{name}")]

    def work() -> None:
        for place in ours:
            umount2(place.encode(), MNT_DETACH)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"/run/{name}")

    site.in_files(node, work)


def hide(site: Site, fault: Fault, state: State) -> None:
    """Take away what has the fault's name, and nothing else."""
    uncover(site, fault.on, state["name"])
    if fault.kind == "dns-slow":
        table = f"table inet {state['table']}"
        filters.load(site.pid(fault.on), f"add {table}\ndelete {table}\n")
