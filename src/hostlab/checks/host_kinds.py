"""Kinds that are about a host's own state: users, groups, packages, mounts, processes, services."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Final

from hostlab.checks import host_state
from hostlab.checks.access import CommandResult, JobStatus, NodeAccess
from hostlab.checks.kind import InsideExpectation, OutsideExpectation, last_lines
from hostlab.checks.patience import Seen
from hostlab.errors import Unsupported
from hostlab.jobs.job_state import JobState

_SHOWN: Final = 8
"""As many processes are named."""


def described(wanted: Mapping[str, object]) -> str:
    """What is wanted, in words: `uid 0, shell /bin/sh`; nothing for what is not said."""
    return ", ".join(f"{key} {_word(value)}" for key, value in wanted.items() if _is_said(value))


def _is_said(value: object) -> bool:
    return value is not None and value != ()


def _word(value: object) -> str:
    return " and ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


class _Named(InsideExpectation, frozen=True, kw_only=True):
    """Something with a name that is as said."""

    def _name(self) -> str:
        raise NotImplementedError

    def _wanted(self) -> Mapping[str, object]:
        raise NotImplementedError

    def text(self) -> str:
        wanted = described(self._wanted())
        return f"{self._name()} ({wanted})" if wanted else self._name()

    def expected(self) -> str:
        wanted = described(self._wanted())
        return f"{self.kind} {self._name()}" + (f" with {wanted}" if wanted else "")

    def _compared(self, found: Mapping[str, object]) -> Seen:
        """Every member that is wanted beside what was found under the same name."""
        for key, value in self._wanted().items():
            if _is_said(value) and not _fits(value, found[key]):
                verb = "are" if isinstance(value, tuple | list) else "is"
                return Seen(ok=False, text=f"its {key} {verb} {_word(found[key]) or 'none'}")
        return Seen(ok=True, text=described(found) or "it is there")


def _fits(wanted: object, found: object) -> bool:
    """Equal; of several that are wanted, all are among those found."""
    if isinstance(wanted, tuple | list):
        assert isinstance(found, tuple | list)
        return set(wanted) <= set(found)
    return wanted == found


class UserIs(_Named, frozen=True, kw_only=True):
    """The host's table of users has this one, as said."""

    kind = "user"

    name: str
    uid: int | None = None
    gid: int | None = None
    home: str | None = None
    shell: str | None = None
    groups: tuple[str, ...] = ()
    """It is in all of these."""

    def _name(self) -> str:
        return self.name

    def _wanted(self) -> Mapping[str, object]:
        return {
            "uid": self.uid,
            "gid": self.gid,
            "home": self.home,
            "shell": self.shell,
            "groups": self.groups,
        }

    def by_hand(self, within_s: float) -> tuple[str, ...]:
        return ("id", self.name) if self.groups else ("getent", "passwd", self.name)

    def attempt(self, timeout_s: float) -> Seen:
        found = [user for user in host_state.users() if user.name == self.name]
        if not found:
            return Seen(ok=False, text="there is no such user in /etc/passwd")
        groups = tuple(host_state.groups_of(found[0], host_state.groups()))
        return self._compared(found[0]._asdict() | {"groups": groups})


class GroupIs(_Named, frozen=True, kw_only=True):
    """The host's table of groups has this one, as said."""

    kind = "group"

    name: str
    gid: int | None = None
    members: tuple[str, ...] = ()
    """All of these are listed in it."""

    def _name(self) -> str:
        return self.name

    def _wanted(self) -> Mapping[str, object]:
        return {"gid": self.gid, "members": self.members}

    def by_hand(self, within_s: float) -> tuple[str, ...]:
        return ("getent", "group", self.name)

    def attempt(self, timeout_s: float) -> Seen:
        found = [group for group in host_state.groups() if group.name == self.name]
        if not found:
            return Seen(ok=False, text="there is no such group in /etc/group")
        return self._compared(found[0]._asdict())


class PackageIs(InsideExpectation, frozen=True, kw_only=True):
    """A package of Debian's kind is installed, or is not."""

    kind = "package"

    name: str
    version: str | None = None
    """The whole version, or a pattern: `1.22.*`."""
    installed: bool = True

    def text(self) -> str:
        if not self.installed:
            return f"{self.name} (not installed)"
        return f"{self.name} {self.version}" if self.version else self.name

    def expected(self) -> str:
        if not self.installed:
            return f"package {self.name} not to be installed"
        version = f" in version {self.version}" if self.version else ""
        return f"package {self.name} to be installed{version}"

    def by_hand(self, within_s: float) -> tuple[str, ...]:
        return ("dpkg-query", "-W", self.name)

    def attempt(self, timeout_s: float) -> Seen:
        try:
            version = host_state.package_version(self.name)
        except FileNotFoundError:
            text = f"packages are not known here: there is no {host_state.DPKG_STATUS}"
            return Seen(ok=False, unknown=True, hopeless=True, text=text)
        if version is None:
            return Seen(ok=not self.installed, text="it is not installed")
        fits = self.version is None or fnmatchcase(version, self.version)
        return Seen(ok=self.installed and fits, text=f"version {version} is installed")


class MountIs(_Named, frozen=True, kw_only=True):
    """A file system is mounted at a path, as said."""

    kind = "mount"

    path: str
    source: str | None = None
    type: str | None = None
    options: tuple[str, ...] = ()
    """It has all of these."""

    def _name(self) -> str:
        return self.path

    def _wanted(self) -> Mapping[str, object]:
        return {"source": self.source, "type": self.type, "options": self.options}

    def by_hand(self, within_s: float) -> tuple[str, ...]:
        return ("findmnt", self.path)

    def attempt(self, timeout_s: float) -> Seen:
        path = self.path.rstrip("/") or "/"
        found = [mount for mount in host_state.mounts() if mount.path == path]
        if not found:
            return Seen(ok=False, text="nothing is mounted there")
        options = tuple(sorted(found[-1].options))
        return self._compared(found[-1]._asdict() | {"options": options})


class ProcessIs(InsideExpectation, frozen=True, kw_only=True):
    """A program runs in the host, or does not."""

    kind = "process"

    name: str
    """Of the program: `nginx`; what the kernel calls it, or the last part of its path."""
    user: str | None = None
    """Name or number."""
    args: str | None = None
    """A text that its command line contains."""
    count: int | None = None
    """Exactly so many of them; 0 is none. Without it at least one."""

    def text(self) -> str:
        return f"{self.name} ({wanted})" if (wanted := self._words()) else self.name

    def _words(self) -> str:
        args = None if self.args is None else repr(self.args)
        return described({"count": self.count, "user": self.user, "args": args})

    def expected(self) -> str:
        some = {None: "a process", 0: "no process", 1: "one process"}.get(
            self.count, f"{self.count} processes"
        )
        wanted = described({"user": self.user, "args": self.args})
        return f"{some} {self.name}" + (f" with {wanted}" if wanted else "")

    def by_hand(self, within_s: float) -> tuple[str, ...]:
        return ("pgrep", "-a", self.name)

    def attempt(self, timeout_s: float) -> Seen:
        named = [each for each in host_state.processes() if self._is_named(each)]
        found = [each for each in named if self._fits(each)]
        log = tuple(f"{each.pid} {' '.join(each.words) or each.name}" for each in named[:_SHOWN])
        if len(found) == self.count or (self.count is None and found):
            pids = ", ".join(str(each.pid) for each in found[:_SHOWN])
            return Seen(ok=True, text=f"pid {pids}" if found else "no such process runs")
        if named and not found:
            return Seen(ok=False, text=f"{len(named)} of that name, none as said", log=log)
        number = f"{len(found)} of them run" if found else "no such process runs"
        return Seen(ok=False, text=number, log=log)

    def _is_named(self, process: host_state.Process) -> bool:
        program = os.path.basename(process.words[0]) if process.words else ""
        # Servers write titles there: `nginx: master process …`.
        return self.name in {process.name, program, program.split(" ")[0].rstrip(":")}

    def _fits(self, process: host_state.Process) -> bool:
        if self.args is not None and self.args not in " ".join(process.words):
            return False
        if self.user is None or self.user == str(process.uid):
            return True
        return any(each.name == self.user for each in _by_uid(process.uid))


def _by_uid(uid: int) -> list[host_state.User]:
    return [each for each in host_state.users() if each.uid == uid]


class ServiceIs(OutsideExpectation, frozen=True, kw_only=True):
    """A service runs, or not, and starts at boot, or not: a node's job, or a unit of systemd."""

    kind = "service"

    name: str
    running: bool | None = None
    enabled: bool | None = None

    def text(self) -> str:
        return f"{self.name} ({self._words()})"

    def _words(self) -> str:
        running = {None: (), True: ("running",), False: ("not running",)}[self.running]
        enabled = {None: (), True: ("enabled",), False: ("not enabled",)}[self.enabled]
        return ", ".join((*running, *enabled))

    def expected(self) -> str:
        return f"service {self.name} to be {self._words()}"

    def by_hand(self, within_s: float) -> tuple[str, ...]:
        return ("systemctl", "status", self.name)

    def attempt(self, access: NodeAccess, timeout_s: float) -> Seen:
        try:
            jobs = access.jobs()
        except Unsupported:  # a host without an init of ours
            jobs = {}
        job = jobs.get(self.name) or jobs.get(f"{self.name}.service")
        if job is None or self.enabled is not None:
            return self._of_systemctl(access, timeout_s, job)
        return self._judged(job.state is JobState.RUNNING, None, f"job {self.name} is {job.state}")

    def _of_systemctl(self, access: NodeAccess, timeout_s: float, job: JobStatus | None) -> Seen:
        name = shlex.quote(self.name)
        command = (
            f'a="$(systemctl is-active -- {name})"; b="$(systemctl is-enabled -- {name})";'
            ' printf "%s\\n%s\\n" "$a" "$b"'
        )
        try:
            said = access.run(command, timeout_s=timeout_s)
        except TimeoutError:
            return Seen(ok=False, heard=0, text="systemctl has not answered in time")
        active, enabled = (*said.stdout.decode(errors="replace").split("\n"), "", "")[:2]
        if not active and job is None:
            return _untold(said)
        runs = active == "active" if job is None else job.state is JobState.RUNNING
        state = active if job is None else f"job {self.name} is {job.state}"
        is_enabled = enabled in ("enabled", "enabled-runtime")
        return self._judged(runs, is_enabled, f"{state}, {enabled or 'not there'}")

    def _judged(self, running: bool, enabled: bool | None, text: str) -> Seen:  # noqa: FBT001
        good = self.running in {None, running} and self.enabled in {None, enabled}
        return Seen(ok=good, text=text)


def _untold(said: CommandResult) -> Seen:
    """Nobody here knows services: neither a job of that name, nor an answer of systemctl."""
    text = "there is no job of that name, and systemctl does not tell"
    return Seen(ok=False, unknown=True, hopeless=True, text=text, log=last_lines(said.stderr))
