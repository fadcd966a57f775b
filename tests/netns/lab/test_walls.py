"""Breaking out of a node fails: one test an attempt, in root's lab and in a plain user's.

What holds each wall, and what weakens it, is in docs/walls.md.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.lab.wall_attempts import NETLINK_KOBJECT_UEVENT, TIOCSCTTY, TIOCSTI
from tests.netns.lab.wall_site import PLAIN_USER, Outcome, Site

pytestmark = pytest.mark.netns

DESCRIPTION = """
name: walls{name}
segments: [lan]
nodes:
  inside:
    interfaces: [lan]
  neighbour:
    interfaces: [lan]
  admin:
    capabilities: {{add: [SYS_ADMIN, SYS_PTRACE, DAC_READ_SEARCH]}}
"""
REFUSALS = frozenset(
    {
        errno.EPERM,
        errno.EACCES,
        errno.EROFS,
        errno.ENOENT,
        errno.ESRCH,
        errno.ENODEV,
        errno.ECONNREFUSED,
        errno.ENOSYS,
        errno.EOPNOTSUPP,
    }
)
DEADLINE_S = 60.0


def _may_stage(*, is_root: bool) -> bool:
    options = {} if is_root else {"user": PLAIN_USER, "group": PLAIN_USER, "extra_groups": []}
    command = ["unshare", *([] if is_root else ["--user"]), "--mount", "true"]
    try:
        done = subprocess.run(command, capture_output=True, check=False, cwd="/", **options)  # type: ignore[call-overload]  # options by name
    except PermissionError:
        return False
    return bool(done.returncode == 0)


@pytest.fixture(scope="module", params=["root", "rootless"])
def lab_user(request: pytest.FixtureRequest) -> str:
    user: str = request.param
    if os.geteuid() != 0 or not _may_stage(is_root=user == "root"):
        pytest.skip(f"no lab can be staged here for {user}")
    return user


@pytest.fixture(scope="module")
def site(lab_user: str) -> Iterator[Site]:
    """A lab in a directory on the machine's own file system, which nodes see an overlay of."""
    directory = Path(tempfile.mkdtemp(prefix="hostlab-walls-", dir="/var/tmp"))
    directory.chmod(0o755)
    try:
        text = DESCRIPTION.format(name=uuid.uuid4().hex[:6])
        staged = Site(directory, text, is_root=lab_user == "root")
        try:
            yield staged
        finally:
            staged.close()
    finally:
        shutil.rmtree(directory)


@pytest.fixture(scope="module")
def machine(site: Site) -> Iterator[Path]:
    """A directory of the machine that anyone may write, on its root and in /run."""
    hidden = Path(tempfile.mkdtemp(prefix="hostlab-walls-", dir="/run"))
    hidden.chmod(0o777)
    (hidden / "secret").write_text("the machine's")
    (hidden / "secret").chmod(0o666)
    yield hidden
    shutil.rmtree(hidden)


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the machine, of the lab's user."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    assert process.poll() is None, "a node ended a process of the machine"
    process.kill()
    process.wait()


def assert_refused(outcome: Outcome, *numbers: int) -> None:
    assert not outcome.through, outcome
    assert outcome.errno in (numbers or REFUSALS), outcome


# --- the machine's files


@pytest.mark.parametrize("node", ["inside", "admin"])
def test_overlay_keeps_the_machines_files(site: Site, node: str) -> None:
    victim = site.directory / f"victim-{node}"
    victim.write_text("the machine's")
    if not site.is_root:
        os.chown(victim, PLAIN_USER, PLAIN_USER)
    site.attempt(node, "write_file", path=str(victim))
    assert victim.read_text() == "the machine's"
    if site.is_root:  # a plain user's overlay cannot copy up what belongs to users it lacks
        assert site.run(node, "cat", str(victim)) == "broken out"


def test_no_process_leads_to_the_machines_files(site: Site, machine: Path) -> None:
    outcome = site.attempt("inside", "through_process", path=str(machine / "secret"))
    assert not outcome.through, outcome
    assert outcome.seen > 8


def test_a_command_has_three_descriptors(site: Site) -> None:
    outcome = site.attempt("inside", "descriptors")
    assert not outcome.through, outcome


@pytest.mark.parametrize("attempt", ["change_standard_files", "change_devices"])
def test_device_files_of_the_machine_keep_their_mode(site: Site, attempt: str) -> None:
    outcome = site.attempt("inside", attempt)
    assert not outcome.through, outcome


def test_mounts_of_the_machine_are_read_only(site: Site) -> None:
    outcome = site.attempt("inside", "write_shared_mounts")
    assert not outcome.through, outcome


def test_hosts_of_the_lab_are_not_a_nodes_to_write(site: Site) -> None:
    before = site.run("neighbour", "cat", "/etc/hosts")
    assert_refused(site.attempt("inside", "write_file", path="/etc/hosts"))
    assert site.run("neighbour", "cat", "/etc/hosts") == before


def test_chroot_leads_nowhere(site: Site) -> None:
    outcome = site.attempt("inside", "chroot_out")
    assert not outcome.through, outcome


@pytest.mark.parametrize("node", ["inside", "admin"])
def test_no_file_is_opened_by_handle(site: Site, node: str) -> None:
    assert_refused(site.attempt(node, "by_handle", path="/"), errno.EPERM)


WAYS_TO_MOUNT = (
    "bind", "remount", "remount-super", "unmask", "unprotect", "setattr", "open_tree", "fsopen",
    "pivot_root", "proc", "sysfs", "tmpfs", "devtmpfs", "cgroup", "cgroup2", "debugfs", "tracefs",
    "securityfs", "ext4", "bpf",
)  # fmt: skip


@pytest.mark.parametrize("way", WAYS_TO_MOUNT)
def test_nothing_is_mounted(site: Site, way: str) -> None:
    assert_refused(site.attempt("inside", "mounting", call_name=way), errno.EPERM)


HARMLESS = ("bind", "open_tree", "tmpfs", "fsopen", "pivot_root", "bpf", "cgroup", "cgroup2")
"""What a new user namespace may do with what is its own."""


@pytest.mark.parametrize("way", [way for way in WAYS_TO_MOUNT if way not in HARMLESS])
def test_user_namespace_uncovers_nothing(site: Site, way: str) -> None:
    outcome = site.attempt("inside", "mounting_as_namespace_root", call_name=way)
    assert_refused(outcome, errno.EPERM, errno.EINVAL, errno.EACCES, errno.ENODEV)


# --- devices


@pytest.mark.parametrize(
    ("kind", "major", "minor"),
    [("b", 254, 0), ("b", 7, 0), ("c", 1, 1), ("c", 1, 4), ("c", 1, 11), ("c", 10, 237)],
    ids=["vda", "loop0", "mem", "port", "kmsg", "loop-control"],
)
@pytest.mark.parametrize("node", ["inside", "admin"])
def test_no_device_is_made(site: Site, node: str, kind: str, major: int, minor: int) -> None:
    outcome = site.attempt(node, "make_device", kind=kind, major=major, minor=minor)
    assert_refused(outcome, errno.EPERM, errno.EACCES)


def test_no_raw_device_is_there(site: Site) -> None:
    outcome = site.attempt("inside", "list_devices")
    assert not outcome.through, outcome
    assert "/dev/null" in outcome.seen


# --- processes


def test_only_the_nodes_processes_are_seen(site: Site, bystander: subprocess.Popen[bytes]) -> None:
    seen = site.attempt("inside", "visible_processes").seen
    assert "1" in seen
    assert str(bystander.pid) not in seen
    assert len(seen) <= 3, seen


def test_no_process_of_the_machine_is_signalled(
    site: Site, bystander: subprocess.Popen[bytes]
) -> None:
    neighbour = site.ask()["nodes"][1]["pid"]
    for pid in (bystander.pid, neighbour, os.getpid()):
        for node in ("inside", "admin"):
            assert_refused(site.attempt(node, "signal_process", pid=pid), errno.ESRCH)


def test_init_survives_its_node(site: Site) -> None:
    outcome = site.attempt("inside", "kill_init")
    assert not outcome.through, outcome
    assert site.run("inside", "echo", "alive") == "alive\n"


@pytest.mark.parametrize(
    "way",
    ["ptrace", "seize", "pidfd_getfd", "process_vm", "mem", "root", "cwd", "exe", "fd/0", "ns/mnt"],
)
def test_init_is_not_taken_over(site: Site, way: str) -> None:
    assert_refused(site.attempt("inside", "own_init", way=way), errno.EPERM, errno.EACCES)


def test_command_being_started_is_not_taken_over(site: Site) -> None:
    """A command's process has init's descriptors until `execve`; a long PATH makes that long."""
    slow = {"PATH": ":".join(["/nowhere"] * 5_000) + ":/usr/bin:/bin"}
    beside = {"argv": ["true"], "options": {"environment": slow}}
    outcome, started = site.attempt_beside("inside", "own_starting", beside, seconds=2.0, least=4)
    assert not outcome.through, outcome
    assert started
    assert outcome.seen >= 4, "few were seen starting"


# --- clock, modules, kernel log, and what else there is one of


@pytest.mark.parametrize(
    "name",
    [
        "settimeofday", "clock_settime", "adjtimex", "clock_adjtime", "init_module",
        "finit_module", "delete_module", "kexec_load", "syslog", "swapon", "iopl", "bpf",
        "perf_event_open", "userfaultfd", "io_uring_setup", "add_key", "keyctl", "kcmp",
    ],
)  # fmt: skip
@pytest.mark.parametrize("node", ["inside", "admin"])
def test_system_call_of_the_machine_is_refused(site: Site, node: str, name: str) -> None:
    outcome = site.attempt(node, "system_call", name=name)
    assert_refused(outcome, errno.EPERM, errno.ENOSYS)


@pytest.mark.parametrize(
    ("path", "flags"),
    [
        ("/dev/kmsg", os.O_RDONLY),
        ("/dev/kmsg", os.O_WRONLY),
        ("/proc/kmsg", os.O_RDONLY),
        ("/proc/kcore", os.O_RDONLY),
        ("/dev/mem", os.O_RDONLY),
        ("/proc/keys", os.O_RDONLY),
        ("/proc/timer_list", os.O_RDONLY),
        ("/proc/sysrq-trigger", os.O_WRONLY),
        ("/proc/sys/kernel/core_pattern", os.O_WRONLY),
        ("/proc/sys/kernel/modprobe", os.O_WRONLY),
        ("/proc/sys/kernel/hostname", os.O_WRONLY),
        ("/proc/sys/vm/drop_caches", os.O_WRONLY),
        ("/proc/sys/fs/binfmt_misc/register", os.O_WRONLY),
        ("/sys/kernel/uevent_helper", os.O_WRONLY),
        ("/sys/power/state", os.O_WRONLY),
    ],
)
def test_file_of_the_kernel_is_closed(site: Site, path: str, flags: int) -> None:
    outcome = site.attempt("inside", "open_file", path=path, flags=flags)
    assert not outcome.through, outcome


def test_kernel_log_has_no_end_to_read_again_and_again(site: Site) -> None:
    """rsyslogd took a whole CPU where it found a /dev/null there."""
    assert_refused(site.attempt("inside", "open_file", path="/proc/kmsg", flags=0), errno.ENXIO)


ALLOWED = {
    "/proc/sys/net/": "the network namespace's own",
    "/proc/self/": "the process' own",
    "/proc/thread-self/": "the process' own",
    "/proc/pressure/": "a write asks to be woken, for this descriptor only",
}
"""What may be opened for writing, with the reason."""


@pytest.mark.parametrize("top", ["/proc", "/sys"])
def test_no_file_of_the_kernel_opens_for_writing(site: Site, top: str) -> None:
    outcome = site.attempt("inside", "writable_kernel_files", top=top, allowed=list(ALLOWED))
    # A masked file is /dev/null: it opens, and swallows.
    masked = {"/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/kmsg", "/proc/timer_list"}
    assert not set(outcome.seen) - masked, outcome


# --- sockets


@pytest.mark.parametrize("address", ["abstract", "path"])
def test_socket_of_the_machine_is_not_reached(site: Site, machine: Path, address: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        name = f"@hostlab-{uuid.uuid4()}" if address == "abstract" else f"{machine}/socket"
        listener.bind("\0" + name[1:] if address == "abstract" else name)
        listener.listen()
        for node in ("inside", "admin"):
            assert_refused(site.attempt(node, "connect", address=name))


def test_socket_below_the_overlay_is_not_reached(site: Site) -> None:
    """The run directory is on the machine's root here, so its sockets are seen: as dead files."""
    found = sorted(site.run_directory.glob("*/hub.sock"))
    found += sorted(site.run_directory.glob("*/nodes/*/control.sock"))
    assert len(found) == 4
    for path in found:
        assert_refused(site.attempt("inside", "connect", address=str(path)))


def test_no_socket_of_the_machine_is_listed(site: Site) -> None:
    name = f"hostlab-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        outcome = site.attempt("inside", "listed_sockets", text=name)
    assert not outcome.through, outcome


@pytest.mark.parametrize("kind", ["net", "mnt", "pid", "user", "uts", "ipc", "cgroup"])
def test_no_other_namespace_is_joined(site: Site, kind: str) -> None:
    assert_refused(site.attempt("inside", "join", path=f"/proc/1/ns/{kind}"))


def hear(witness: socket.socket, device: bytes) -> None:
    """Wait for a device's event among those of others; the socket's time-out is the deadline."""
    while True:
        try:
            if device in witness.recv(2048):
                return
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # others' events overflowed it; ours comes again
                raise
            return


def test_machines_device_events_are_not_heard(site: Site) -> None:
    """A change event of /dev/null, which changes nothing, is sent until the node has waited."""
    trigger = Path("/sys/devices/virtual/mem/null/uevent")
    heard: list[Outcome] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_KOBJECT_UEVENT) as witness:
        witness.bind((0, 1))
        witness.settimeout(DEADLINE_S)
        thread = threading.Thread(
            target=lambda: heard.append(site.attempt("inside", "hear_uevents", wait_s=1.0))
        )
        thread.start()
        while thread.is_alive():
            trigger.write_text("change")
            hear(witness, b"mem/null")
            thread.join(0.02)
    assert not heard[0].through, heard[0]


# --- cgroups


@pytest.mark.parametrize("node", ["inside", "admin"])
def test_cgroup_path_tells_nothing_of_what_is_above(site: Site, node: str) -> None:
    if not site.is_root:
        pytest.skip("here: a plain user's lab without delegation stays in its caller's cgroup")
    outcome = site.attempt(node, "cgroup_paths")
    assert not outcome.through, outcome


@pytest.mark.parametrize(
    ("kind", "controller"),
    [("cgroup2", None)]
    + [("cgroup", name) for name in ("pids", "cpu", "memory", "freezer", "devices")],
)
def test_cgroups_above_are_out_of_reach(site: Site, kind: str, controller: str | None) -> None:
    for node in ("inside", "admin"):
        outcome = site.attempt(node, "mount_cgroup", kind=kind, controller=controller)
        assert not outcome.through, outcome


# --- terminals


@pytest.mark.parametrize(
    "request_number", [TIOCSTI, TIOCSTI | 1 << 32, TIOCSCTTY], ids=["type", "type-high", "take"]
)
def test_callers_terminal_is_not_typed_into(site: Site, request_number: int) -> None:
    outcome = site.attempt_on_terminal("inside", "terminal", request=request_number)
    assert_refused(outcome, errno.EPERM)


# --- gluttony

GLUTTONS = """
name: gluttons{name}
segments: [lan]
nodes:
  glutton:
    interfaces: [lan]
    limits: {limits}
  neighbour:
    interfaces: [lan]
"""


@pytest.fixture
def gluttons(lab_user: str) -> Iterator[Site]:
    directory = Path(tempfile.mkdtemp(prefix="hostlab-walls-", dir="/var/tmp"))
    directory.chmod(0o755)
    limits = "{pids: 50, memory: 64MiB}" if lab_user == "root" else "{}"
    try:
        text = GLUTTONS.format(name=uuid.uuid4().hex[:6], limits=limits)
        staged = Site(directory, text, is_root=lab_user == "root")
        try:
            yield staged
        finally:
            staged.close()
    finally:
        shutil.rmtree(directory)


def test_fork_bomb_leaves_the_others_answering(gluttons: Site) -> None:
    """It goes on in its node, at its limit, while the neighbour answers; `status` names it."""
    outcome = gluttons.attempt("glutton", "fork_bomb", limit=50 if gluttons.is_root else 4096)
    assert not outcome.through, outcome
    assert gluttons.run("neighbour", "echo", "here") == "here\n"
    if gluttons.is_root:
        exceeded = {row["name"]: row["exceeded"] for row in gluttons.ask()["nodes"]}
        assert exceeded == {"glutton": ["pids"], "neighbour": []}


def test_memory_hog_leaves_the_others_answering(gluttons: Site) -> None:
    if not gluttons.is_root:
        pytest.skip(
            "here: without a delegated cgroup nothing bounds memory, as `up` and `doctor` say"
        )
    outcome = gluttons.attempt("glutton", "hog_memory", size=256 << 20)
    assert not outcome.through, outcome
    assert gluttons.run("neighbour", "echo", "here") == "here\n"
    exceeded = {row["name"]: row["exceeded"] for row in gluttons.ask()["nodes"]}
    assert exceeded == {"glutton": ["memory"], "neighbour": []}
