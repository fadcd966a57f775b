"""The capabilities that a process has and that a file gives, decoded."""

from __future__ import annotations

import errno
import os
from typing import ClassVar

import msgspec

from hostlab.errors import DecodeError, UsageError
from hostlab.linux.capabilities import NAMES, decode_status, mask_of, names_of
from hostlab.linux.file_capabilities import FILE_ATTRIBUTE, decode_file_capabilities

_SETS = ("permitted", "effective", "inheritable", "bounding", "ambient")
_SECCOMP_MODES = {0: "off", 1: "strict", 2: "filter"}
_ALL_BUT_AT_MOST = 12
"""With more than this missing the names that are there are the shorter list."""


class ProcessCapabilities(msgspec.Struct, frozen=True, kw_only=True):
    """A process' five sets by name, and what else bounds what it can gain."""

    COLUMNS: ClassVar = ("set", "capabilities")

    pid: int
    command: str
    uid: int
    """The effective user, as the caller's user namespace numbers users."""
    user_namespace: int | None
    """Capabilities count in this one and below; None when it may not be read."""
    permitted: tuple[str, ...]
    effective: tuple[str, ...]
    inheritable: tuple[str, ...]
    bounding: tuple[str, ...]
    ambient: tuple[str, ...]
    no_new_privs: bool
    seccomp: str
    """`off`, `strict` or `filter`."""

    def rows(self) -> tuple[tuple[str, ...], ...]:
        """One row a set, under `COLUMNS`."""
        return tuple((name, brief(getattr(self, name))) for name in _SETS)

    def __str__(self) -> str:
        where = self.user_namespace or "unreadable"
        return "\n".join(
            (
                f"{self.pid} ({self.command}), user {self.uid}, user namespace {where}",
                *(f"  {name + ':':<14}{value}" for name, value in self.rows()),
                f"  {'no_new_privs:':<14}{'yes' if self.no_new_privs else 'no'}"
                f", seccomp: {self.seccomp}",
            )
        )


class FileCapabilitiesInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What executing a file gives."""

    COLUMNS: ClassVar = ("file", "capabilities")

    path: str
    permitted: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    effective: bool = False
    """Whether they are in force at once, for programs that know nothing of capabilities."""
    rootid: int | None = None
    """They count only where this user is root of the user namespace; None is the initial one."""
    text: str = ""
    """As `setcap` writes it; empty when the file carries none."""

    def rows(self) -> tuple[tuple[str, ...], ...]:
        """One row under `COLUMNS`."""
        return ((self.path, self.text or "none"),)

    def __str__(self) -> str:
        return f"{self.path}: {self.text or 'none'}"


def brief(names: tuple[str, ...]) -> str:
    """A set in few words: `none`, `all`, `all but SYS_RESOURCE`, or the names."""
    if not names:
        return "none"
    missing = names_of(((1 << len(NAMES)) - 1) & ~mask_of(names))
    if not missing:
        return "all"
    if len(missing) <= _ALL_BUT_AT_MOST:
        return f"all but {', '.join(missing)}"
    return ", ".join(names)


def process_capabilities(pid: int) -> ProcessCapabilities:
    """The sets of a process, from /proc/PID/status.

    `UsageError` when there is no such process here.
    """
    try:
        with open(f"/proc/{pid}/status", errors="surrogateescape") as file:
            status = file.read()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH):
            raise UsageError("process", f"there is no process {pid}") from None
        raise
    sets = decode_status(status)
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    try:
        user_namespace = os.stat(f"/proc/{pid}/ns/user").st_ino
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESRCH, errno.EACCES, errno.EPERM):
            raise
        user_namespace = None
    try:
        return ProcessCapabilities(
            pid=pid,
            command=fields["Name"],
            uid=int(fields["Uid"].split()[1]),
            user_namespace=user_namespace,
            no_new_privs=fields["NoNewPrivs"] == "1",
            seccomp=_SECCOMP_MODES.get(int(fields.get("Seccomp", "0")), "unknown"),
            **{name: names_of(getattr(sets, name)) for name in _SETS},
        )
    except (KeyError, ValueError, IndexError) as error:
        raise DecodeError("proc-status", f"process {pid}: no such field: {error}") from None


def file_capabilities(path: str) -> FileCapabilitiesInfo:
    """What a file gives when it is executed, from its `security.capability` attribute.

    OSError when the file cannot be reached; `DecodeError` for an attribute that means nothing.
    """
    try:
        value = os.getxattr(path, FILE_ATTRIBUTE)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return FileCapabilitiesInfo(path=path)
        raise
    read = decode_file_capabilities(value)
    return FileCapabilitiesInfo(
        path=path,
        permitted=names_of(read.permitted),
        inheritable=names_of(read.inheritable),
        effective=read.effective,
        rootid=read.rootid,
        text=str(read),
    )
