"""Where a lab keeps what is not the kernel's: its run directory, its sockets, its locks.

Nothing else is kept anywhere. The directory is the owner's alone (0700): whoever can open the
control sockets in it owns the lab.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from typing import Final

import msgspec

from hostlab.errors import Problem, Unsupported, UsageError
from hostlab.linux.directories import make_directory
from hostlab.linux.lock_files import locked
from hostlab.linux.procfs import boot_id as boot_id
from hostlab.linux.procfs import start_time as start_time
from hostlab.plan.journal import Entry, entries, line

BASE_VARIABLE: Final = "HOSTLAB_RUN"
"""Environment variable that names another base directory."""
OWNER_DIGITS: Final = 8
REMOVALS: Final = 3
"""A process that is ending may write a last file between the listing and the removal."""
INIT: Final = ".init"
"""Where labs have their names an init without a lab has this; no lab's begins with a dot."""


def init_directory() -> str:
    """Where an init without a lab has its run directory."""
    return f"{base_directory()}/{INIT}"


def base_directory() -> str:
    """Where labs of this user live: /run/hostlab for root, else below XDG_RUNTIME_DIR.

    Without symbolic links, as the kernel names it to whoever looks at a lab's descriptors.
    """
    if chosen := os.environ.get(BASE_VARIABLE):
        found = chosen
    elif os.geteuid() == 0:
        found = "/run/hostlab"
    elif runtime := os.environ.get("XDG_RUNTIME_DIR"):
        found = f"{runtime}/hostlab"
    else:
        found = f"/tmp/hostlab-{os.geteuid()}"
    return os.path.realpath(found)


def owner(base: str) -> str:
    """Whose labs these are: of a user, in a base directory, as seen in these namespaces.

    The same text after every boot and when the directory has been removed, so that what a lab has
    left is found again; another one for a lab within a lab, where names and paths are the same.
    """
    # It brings OpenSSL with it, which many commands do without.
    import hashlib

    spaces = [os.stat(f"/proc/self/ns/{kind}").st_ino for kind in ("user", "pid")]
    text = f"{os.geteuid()} {spaces} {os.path.abspath(base)}"
    return hashlib.sha256(text.encode()).hexdigest()[:OWNER_DIGITS]


def _make_private(path: str) -> None:
    found = make_directory(path, mode=0o700)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise UsageError(
            "run-directory",
            f"{path} is not a directory of yours",
            hint=f"set {BASE_VARIABLE} to a directory that only you can write",
        )


class LabDirectory(msgspec.Struct, frozen=True):
    """A lab's run directory; the methods do what their names say and nothing more."""

    name: str
    base: str

    @classmethod
    def of(cls, name: str) -> LabDirectory:
        """The directory of a lab of this user, made or not."""
        return cls(name, base_directory())

    @property
    def path(self) -> str:
        """The lab's directory."""
        return f"{self.base}/{self.name}"

    @property
    def mark(self) -> str:
        """Names this lab on the machine: labs of one name may stand in several directories."""
        return f"{self.name}:{owner(self.base)}"

    @property
    def journal(self) -> str:
        """See plan/journal.py."""
        return f"{self.path}/journal"

    @property
    def description(self) -> str:
        """The lab as it was last staged, whole, as JSON."""
        return f"{self.path}/lab.json"

    @property
    def lock(self) -> str:
        """Held by whoever changes the lab."""
        return f"{self.base}/{lock_name(self.name)}"

    def node(self, name: str) -> str:
        """A node's directory: its control socket, its jobs' logs."""
        return f"{self.path}/nodes/{name}"

    def exists(self) -> bool:
        """Whether there is anything of this lab."""
        return os.path.isdir(self.path)

    def make(self) -> None:
        """Make the directories; Problem with a remedy when that is not possible."""
        try:
            _make_private(self.base)
            for path in (self.path, f"{self.path}/nodes", f"{self.path}/root"):
                os.makedirs(path, mode=0o700, exist_ok=True)
        except OSError as error:
            raise unusable(self.path, error) from error

    def remove(self) -> None:
        """Remove the lab's files, and the base directory when it was the last lab."""
        for _ in range(REMOVALS):
            if not self.exists():
                return
            with contextlib.suppress(FileNotFoundError, OSError):
                shutil.rmtree(self.path)
        shutil.rmtree(self.path) if self.exists() else None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lab alone; a second caller waits for the first.

        The last holder takes the lock file and an empty base directory away.
        """
        held = contextlib.ExitStack()
        while True:
            try:
                _make_private(self.base)
                held.enter_context(locked(self.lock))
                break
            except FileNotFoundError:
                continue
            except OSError as error:
                raise unusable(self.base, error) from error
        try:
            with held:
                yield
        finally:
            with contextlib.suppress(OSError):
                os.rmdir(self.base)

    def record(self, *lines: Entry) -> None:
        """Write journal lines, before what they tell of is done."""
        append_lines(self.journal, b"".join(map(line, lines)))

    def recorded(self) -> tuple[Entry, ...]:
        """The journal so far; empty when there is none."""
        try:
            with open(self.journal, "rb") as file:
                return tuple(entries(file.read()))
        except FileNotFoundError:
            return ()


def lock_name(lab: str) -> str:
    """The file, beside a lab's run directory, that is locked."""
    return f".{lab}.lock"


def labs() -> list[str]:
    """Every lab of this user that has a run directory."""
    try:
        found = os.scandir(base_directory())
    except FileNotFoundError:
        return []
    with found:
        return sorted(e.name for e in found if e.is_dir() and not e.name.startswith("."))


def append_lines(path: str, data: bytes) -> None:
    """Write whole lines at a file's end, the owner's alone; Problem with a remedy.

    A line that a crash or a full disk cut short is ended first, so that it costs none of these.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "rb+", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size and os.pread(fd, 1, size - 1) != b"\n":
                data = b"\n" + data
            if file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    except OSError as error:
        raise unusable(path, error) from error


def unusable(path: str, error: OSError) -> Problem:
    """What to tell a person whose run directory cannot be used, and the remedy."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = f"make room there, or set {BASE_VARIABLE} to a directory on another file system"
        return Unsupported("disk-full", f"{path}: {error.strerror}", hint=hint)
    hint = f"set {BASE_VARIABLE} to a directory that you can write"
    return Unsupported("run-directory", f"{path}: {error.strerror}", hint=hint)


def read_if_there(path: str) -> bytes | None:
    """A file's content; None when there is no such file."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
