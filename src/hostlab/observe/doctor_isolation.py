"""Probes of what keeps a node apart: namespaces, users, cgroups, filters."""

from __future__ import annotations

import ctypes
import errno
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from hostlab.errors import Problem
from hostlab.linux import cgroups, clone, seccomp
from hostlab.linux.libc import HANDLE, unshare
from hostlab.observe.finding import Finding, Outcome, State, tried

GROUP: Final = "isolation"
_SYS_LANDLOCK_CREATE_RULESET = 444
_LANDLOCK_CREATE_RULESET_VERSION = 1
_RANGE_WANTED = 65_536
_MIN_NAMESPACES = 1_000
"""What a lab of a thousand nodes needs of each kind."""

UNBOUNDED = "forks bounded by RLIMIT_NPROC only, no memory bound, no freeze"
"""What a node without a cgroup is."""


def _ok(name: str, detail: str = "") -> Finding:
    return Finding(GROUP, name, State.OK, detail)


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _user_namespace_remedy(number: int) -> str:
    if _read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        return "sysctl kernel.unprivileged_userns_clone=1"
    if _read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return "sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    if number == errno.ENOSPC:
        return "sysctl user.max_user_namespaces=100000; or fewer than 32 levels of nesting"
    return "in a container: run it with --security-opt seccomp=unconfined"


def user_namespaces() -> Iterator[Finding]:
    """One made by this user, and when that is root also one made by a powerless one."""
    powerless = os.geteuid() != 0
    cases = (
        (("user namespaces", False),)
        if powerless
        else (
            ("user namespaces", False),
            ("user namespaces, unprivileged", True),
        )
    )
    for name, as_nobody in cases:
        outcome = tried(lambda: None, is_rooted=True, as_nobody=as_nobody)
        if outcome.is_ok:
            yield _ok(name, "made, one user mapped")
        else:
            lost = "labs without root" if as_nobody else "labs without root, a lab's own users"
            yield Finding(
                GROUP,
                name,
                State.MISSING,
                f"{outcome.error}; lost: {lost}",
                _user_namespace_remedy(outcome.number),
            )


def namespace_kinds() -> Iterator[Finding]:
    """Every other kind, made inside a user namespace."""
    for kind, flag in clone.NAMESPACE_FLAGS.items():
        if kind == "user":
            continue
        outcome = tried(lambda: None, flags=flag, is_rooted=True)
        if not outcome.is_ok:
            remedy = f"sysctl user.max_{kind}_namespaces; a kernel with this kind of namespace"
            yield Finding(GROUP, f"{kind} namespaces", State.MISSING, outcome.error or "", remedy)
        else:
            yield _ok(f"{kind} namespaces", "made in a user namespace")


def namespace_limits() -> Iterator[Finding]:
    """How many namespaces of each kind a user may have; namespaces(7), /proc/sys/user."""
    low = {}
    for kind in clone.NAMESPACE_FLAGS:
        value = _read(f"/proc/sys/user/max_{kind}_namespaces")
        if value.isdecimal() and int(value) < _MIN_NAMESPACES:
            low[f"user.max_{kind}_namespaces"] = value
    if low:
        detail = ", ".join(f"{name} is {value}" for name, value in low.items())
        remedy = "sysctl " + " ".join(f"{name}=100000" for name in low)
        yield Finding(GROUP, "namespace limits", State.LIMITED, detail, remedy)
    else:
        yield _ok("namespace limits", f"at least {_MIN_NAMESPACES} of each kind a user")


def _map_with(write_map: Callable[[int], str | None]) -> Outcome:
    """Whether the parent can map a range of users into a child's user namespace."""
    ready, go = os.eventfd(0), os.eventfd(0)
    try:
        pid, pidfd = clone.clone3(clone.CLONE_NEWUSER)
        if pid == 0:
            os.eventfd_write(ready, 1)
            os.eventfd_read(go)
            os._exit(0)
        os.eventfd_read(ready)
        try:
            return Outcome(write_map(pid))
        except OSError as error:
            return Outcome(error.strerror or str(error), error.errno or 0)
        finally:
            os.eventfd_write(go, 1)
            os.waitpid(pid, 0)
            os.close(pidfd)
    except OSError as error:
        return Outcome(error.strerror or str(error), error.errno or 0)
    finally:
        os.close(ready)
        os.close(go)


def _subordinate(path: str) -> tuple[int, int] | None:
    """(first, count) of the caller's range in /etc/subuid or /etc/subgid; subuid(5)."""
    uid = os.getuid()
    try:
        names = {str(uid), pwd.getpwuid(uid).pw_name}
    except KeyError:
        names = {str(uid)}
    for line in _read(path).splitlines():
        fields = line.split(":")
        if len(fields) == 3 and fields[0] in names and fields[1].isdecimal():
            return int(fields[1]), int(fields[2])
    return None


def uid_ranges() -> Iterator[Finding]:
    """Whether a node can have more users than one."""
    name = "uid ranges"

    def directly(pid: int) -> None:
        Path(f"/proc/{pid}/uid_map").write_text(f"0 100000 {_RANGE_WANTED}")

    if _map_with(directly).is_ok:
        yield _ok(name, f"{_RANGE_WANTED} users mapped by CAP_SETUID")
        return
    program, given = shutil.which("newuidmap"), _subordinate("/etc/subuid")
    groups = _subordinate("/etc/subgid")
    user = os.getuid()
    ranges = f"usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
    lost = "a node has one user, root"
    if program is None:
        yield Finding(GROUP, name, State.MISSING, f"{lost}: no newuidmap", "apt-get install uidmap")
        return
    if given is None or groups is None:
        yield Finding(GROUP, name, State.MISSING, f"{lost}: no range in /etc/subuid", ranges)
        return

    def by_program(pid: int) -> str | None:
        argv = [program, str(pid), "0", str(user), "1", "1", str(given[0]), str(given[1])]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=10)
        return done.stderr.strip() if done.returncode else None

    outcome = _map_with(by_program)
    if outcome.is_ok:
        state = State.OK if given[1] >= _RANGE_WANTED - 1 else State.LIMITED
        yield Finding(
            GROUP,
            name,
            state,
            f"{given[1]} users mapped by newuidmap",
            "" if state is State.OK else ranges,
        )
    else:
        yield Finding(GROUP, name, State.MISSING, f"{lost}: newuidmap: {outcome.error}", ranges)


def cgroup_kind() -> Iterator[Finding]:
    """Which hierarchies there are, which controllers, and whether a group can be made."""
    found = cgroups.find()
    delegation = "systemd-run --user --scope -p Delegate=yes hostlab …, or a chowned cgroup"
    if found.unified is None:
        detail = "no cgroup v2 directory may be written: " + UNBOUNDED
        if os.geteuid() == 0:
            delegation = "mount -t cgroup2 none /sys/fs/cgroup"
        yield Finding(GROUP, "cgroups", State.MISSING, detail, delegation)
        return
    unified = set(_read(f"{found.unified}/cgroup.controllers").split())
    lacking = [name for name in cgroups.CONTROLLERS if name not in unified and name not in found.v1]
    detail = f"{found.kind}; " + ", ".join(
        f"{name} in {'v2' if name in unified else 'v1'}"
        for name in cgroups.CONTROLLERS
        if name not in lacking
    )
    if lacking:
        detail += f"; no {', '.join(lacking)}: those limits cannot be set"
        remedy = "a kernel with them, or delegation of them: Delegate=" + " ".join(lacking)
        yield Finding(GROUP, "cgroups", State.LIMITED, detail.replace("; ;", ";"), remedy)
    else:
        yield _ok("cgroups", detail)
    yield from _into_cgroup(found.unified)


def task_tracking() -> Iterator[Finding]:
    """What tells which tasks of `hostlab task` run, in a namespace that this user makes."""
    found = cgroups.find()
    if found.unified is not None or found.v1:
        version = "v2" if found.unified is not None else "v1"
        yield _ok("tasks", f"each is a cgroup ({version}); only one with an exit hook has a keeper")
        return
    detail = "no cgroup for tasks: each has a keeper, a process of its own, and no limits"
    remedy = f"sudo hostlab task NAMESPACE init -u {os.getuid()}, or a delegated cgroup"
    yield Finding(GROUP, "tasks", State.LIMITED, detail, remedy)


def _into_cgroup(unified: str) -> Iterator[Finding]:
    name = "clone3 into a cgroup"
    directory = f"{unified}/{cgroups.TREE}-doctor-{os.getpid()}"
    try:
        cgroups.make(directory)
    except OSError as error:
        yield Finding(
            GROUP,
            name,
            State.MISSING,
            f"no cgroup can be made: {error.strerror}",
            "delegate a cgroup to this user",
        )
        return
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            outcome = tried(lambda: _read("/proc/self/cgroup"), cgroup=fd)
        finally:
            os.close(fd)
        wanted = ("cgroup.kill", "cgroup.freeze", "cgroup.events")
        lacking = [file for file in wanted if not os.path.exists(f"{directory}/{file}")]
    finally:
        cgroups.remove(directory)
    if not outcome.is_ok:
        yield Finding(GROUP, name, State.MISSING, outcome.error or "", "Linux 5.7")
    elif os.path.basename(directory) not in str(outcome.value):
        yield Finding(GROUP, name, State.MISSING, "the child was elsewhere", "Linux 5.7")
    elif lacking:
        yield Finding(GROUP, name, State.LIMITED, f"no {', '.join(lacking)}", "Linux 5.14")
    else:
        yield _ok(name, "a child started in one; kill, freeze and events are there")


def pidfd() -> Iterator[Finding]:
    """Processes as descriptors."""
    try:
        os.close(os.pidfd_open(os.getpid()))
        yield _ok("pidfd")
    except OSError as error:
        yield Finding(GROUP, "pidfd", State.MISSING, error.strerror or "", "Linux 5.4")


def time_namespaces() -> Iterator[Finding]:
    """A clock shifted for the children of a process; time_namespaces(7)."""

    def shifted() -> None:
        unshare(clone.CLONE_NEWTIME)
        Path("/proc/self/timens_offsets").write_text("monotonic 1000 0\nboottime 1000 0\n")

    outcome = tried(shifted, is_rooted=True)
    if outcome.is_ok:
        yield _ok("time offsets", "monotonic and boot time; the wall clock is the machine's")
    else:
        yield Finding(
            GROUP,
            "time offsets",
            State.MISSING,
            outcome.error or "",
            "Linux 5.6 with CONFIG_TIME_NS",
        )


def filters() -> Iterator[Finding]:
    """Seccomp with our default profile, Landlock, AppArmor."""
    try:
        program = seccomp.compile_profile("default")
        outcome = tried(lambda: seccomp.apply(program, no_new_privs=True))
        if outcome.is_ok:
            yield _ok("seccomp", f"the default profile, {len(program) // 8} instructions")
        else:
            yield Finding(
                GROUP,
                "seccomp",
                State.MISSING,
                outcome.error or "",
                "a kernel with CONFIG_SECCOMP_FILTER",
            )
    except Problem as error:
        yield Finding(GROUP, "seccomp", State.MISSING, error.message, error.hint or "")
    version: int = HANDLE.syscall(
        ctypes.c_long(_SYS_LANDLOCK_CREATE_RULESET),
        None,
        ctypes.c_long(0),
        ctypes.c_long(_LANDLOCK_CREATE_RULESET_VERSION),
    )
    if version > 0:
        yield _ok("Landlock", f"ABI {version}")
    else:
        detail = os.strerror(ctypes.get_errno())
        yield Finding(GROUP, "Landlock", State.MISSING, detail, "boot with lsm=landlock,…")
    if _read("/sys/module/apparmor/parameters/enabled") == "Y":
        yield _ok("AppArmor")
    else:
        yield Finding(
            GROUP,
            "AppArmor",
            State.MISSING,
            "a node's `apparmor:` is refused",
            "a kernel with AppArmor, booted with lsm=apparmor,…",
        )


PROBES: tuple[Callable[[], Iterator[Finding]], ...] = (
    user_namespaces,
    namespace_kinds,
    namespace_limits,
    uid_ranges,
    cgroup_kind,
    task_tracking,
    pidfd,
    time_namespaces,
    filters,
)
