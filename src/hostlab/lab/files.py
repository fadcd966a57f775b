"""What a description puts into a node: its users, and its files with owner, mode, capabilities."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterable

from hostlab.errors import Problem
from hostlab.linux.file_capabilities import encode_file_capabilities
from hostlab.spec.model import File, User


def write_files(files: Iterable[File]) -> None:
    """Write files into the root of the calling process, atomically each."""
    for file in files:
        _write(file)


def remove_files(paths: Iterable[str]) -> None:
    """Take files away that a description no longer has."""
    for path in paths:
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue


def _write(file: File) -> None:
    directory = os.path.dirname(file.path)
    os.makedirs(directory, exist_ok=True)
    temporary = f"{directory}/.hostlab-{os.path.basename(file.path)}"[:255]
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb", closefd=False) as out:
            out.write(file.content)
        if (owner := (_uid(file.owner), _gid(file.group))) != (os.geteuid(), os.getegid()):
            os.fchown(fd, *owner)
        os.fchmod(fd, file.mode)
        if file.capabilities:
            os.setxattr(fd, "security.capability", encode_file_capabilities(file.capabilities))
        os.rename(temporary, file.path)
    except BaseException:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)


def _uid(name: str) -> int:
    if name.isdigit():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise Problem("no-user", f"no user {name!r} in this node") from None


def _gid(name: str) -> int:
    if name.isdigit():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise Problem("no-group", f"no group {name!r} in this node") from None


def add_users(users: Iterable[User]) -> None:
    """Add users and their groups to the node's own files; a known name keeps what it has."""
    for user in users:
        _append("/etc/group", user.name, f"{user.name}:x:{user.gid}:")
        entry = f"{user.name}:x:{user.uid}:{user.gid}::{user.home}:{user.shell}"
        _append("/etc/passwd", user.name, entry)
        for group in user.groups:
            _join(group, user.name)
        os.makedirs(user.home, exist_ok=True)
        os.chown(user.home, user.uid, user.gid)


def _append(path: str, name: str, entry: str) -> None:
    try:
        with open(path) as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        lines = []
    if any(line.startswith(f"{name}:") for line in lines):
        return
    with open(path, "w") as file:
        # First, so that an id which the root's own users have too goes by the described name.
        file.write("\n".join((entry, *lines)) + "\n")


def _join(group: str, user: str) -> None:
    with open("/etc/group") as file:
        lines = file.read().splitlines()
    for number, line in enumerate(lines):
        if line.startswith(f"{group}:"):
            members = line.rpartition(":")[2]
            if user not in members.split(","):
                lines[number] = f"{line},{user}" if members else f"{line}{user}"
            break
    else:
        raise Problem(
            "no-group", f"no group {group!r} in this node, which user {user!r} is to join"
        )
    with open("/etc/group", "w") as file:
        file.write("\n".join(lines) + "\n")
