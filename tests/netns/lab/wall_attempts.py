"""Ways out of a node, run inside it as its root: nothing but the standard library, no imports.

An attempt raises OSError when it is refused, or returns (whether it got through, what it saw).
System calls go by number: 64-bit x86 and ARM.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import platform
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

Told = tuple[bool, Any]

LIBC = ctypes.CDLL(None, use_errno=True)
NUMBERS = {
    "x86_64": {
        "ptrace": 101, "syslog": 103, "pivot_root": 155, "adjtimex": 159, "settimeofday": 164,
        "mount": 165, "umount2": 166, "reboot": 169, "swapon": 167, "init_module": 175,
        "delete_module": 176, "clock_settime": 227, "kexec_load": 246, "add_key": 248,
        "keyctl": 250, "unshare": 272, "perf_event_open": 298, "open_by_handle_at": 304,
        "clock_adjtime": 305, "setns": 308, "process_vm_readv": 310, "kcmp": 312,
        "finit_module": 313, "bpf": 321, "userfaultfd": 323, "iopl": 172,
    },
    "aarch64": {
        "ptrace": 117, "syslog": 116, "pivot_root": 41, "adjtimex": 171, "settimeofday": 170,
        "mount": 40, "umount2": 39, "reboot": 142, "swapon": 224, "init_module": 105,
        "delete_module": 106, "clock_settime": 112, "kexec_load": 104, "add_key": 217,
        "keyctl": 219, "unshare": 97, "perf_event_open": 241, "open_by_handle_at": 265,
        "clock_adjtime": 266, "setns": 268, "process_vm_readv": 270, "kcmp": 272,
        "finit_module": 273, "bpf": 280, "userfaultfd": 282,
    },
}[platform.machine()] | {
    "io_uring_setup": 425, "open_tree": 428, "move_mount": 429, "fsopen": 430,
    "pidfd_open": 434, "pidfd_getfd": 438, "mount_setattr": 442,
}  # fmt: skip

MS_RDONLY, MS_REMOUNT, MS_BIND, MNT_DETACH = 0x1, 0x20, 0x1000, 2
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 1 << 28, 1 << 29, 1 << 30
TIOCSTI, TIOCSCTTY = 0x5412, 0x540E
PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206
NETLINK_KOBJECT_UEVENT = 15


def call(name: str, *arguments: Any) -> int:
    """A system call; OSError with its name when the kernel refuses."""
    converted = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result: int = LIBC.syscall(ctypes.c_long(NUMBERS[name]), *converted)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """mount(2)."""
    call("mount", *(t.encode() if t else None for t in (source, target, kind)), flags,
         data.encode() if data else None)  # fmt: skip


def in_child(work: Callable[[], Told]) -> Told:
    """Do it in a child, whose namespaces and root may change."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        told: Any
        try:
            told = [*work(), None]
        except OSError as error:
            told = [False, str(error), error.errno]
        os.write(writer, json.dumps(told).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        through, seen, number = json.loads(file.read())
    os.wait()
    if number is not None:
        raise OSError(number, seen)
    return through, seen


def as_namespace_root(flags: int = 0) -> None:
    """Root of a new user namespace, with every capability in it, as a plain program may become."""
    uid, gid = os.geteuid(), os.getegid()
    call("unshare", CLONE_NEWUSER | CLONE_NEWNS | flags)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


# --- the machine's files


def write_file(path: str) -> Told:
    """Overwrite a file; whether the machine's changed is for the caller to see."""
    with open(path, "w") as file:
        file.write("broken out")
    return False, "written into the node's own layer"


def marker(path: str) -> bool:
    """Whether this is a file of the machine that no node shows."""
    return os.path.exists(path)


def through_process(path: str) -> Told:
    """Reach a file that the node does not show through any process's root, directory or files."""
    tried = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        links = [f"/proc/{pid}/root", f"/proc/{pid}/cwd"]
        try:
            links += [f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            links += [f"/proc/{pid}/fd/{fd}" for fd in range(64)]
        for link in links:
            for up in ("", "/.." * 16):
                tried.append(link)
                if marker(link + up + path):
                    return True, link + up
    return False, len(tried)


def descriptors() -> Told:
    """Everything that is open in a command as it starts."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            continue
    return bool(set(found) - {"0", "1", "2"}), found


def change_standard_files() -> Told:
    """Change the mode of what a command was given, if that is a device of the machine."""
    for fd in (0, 1, 2):
        if stat.S_ISCHR(os.fstat(fd).st_mode):
            os.fchmod(fd, stat.S_IMODE(os.fstat(fd).st_mode))
            return True, os.readlink(f"/proc/self/fd/{fd}")
    return False, "no device"


def change_devices() -> Told:
    """Change the mode of device files to what it is: the inode is the machine's."""
    changed = []
    with open("/proc/self/mountinfo") as lines:
        targets = [line.split()[4] for line in lines if " - devtmpfs " in line]
    for path in targets:
        found = os.stat(path)
        try:
            os.chmod(path, stat.S_IMODE(found.st_mode))
            changed.append(path)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EPERM):
                raise
    return bool(changed) or len(targets) < 6, changed or targets


def write_shared_mounts() -> Told:
    """Open for writing what is mounted from a file system of the machine."""
    opened = []
    with open("/proc/self/mountinfo") as lines:
        targets = [line.split()[4] for line in lines if line.split(" - ")[1].split()[1][0] == "/"]
    for target in targets:
        try:
            os.close(os.open(target, os.O_WRONLY))
            opened.append(target)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EISDIR):
                raise
    return bool(opened), opened


def chroot_out() -> Told:
    """The oldest one: a directory held open over a chroot is above the new root."""

    def work() -> Told:
        before = os.stat("/")
        os.makedirs("/tmp/jail", exist_ok=True)
        fd = os.open("/", os.O_RDONLY)
        os.chroot("/tmp/jail")
        os.fchdir(fd)
        for _ in range(64):
            os.chdir("..")
        os.chroot(".")
        return not os.path.samestat(before, os.stat("/")), "the node's own root"

    return in_child(work)


def by_handle(path: str) -> Told:
    """Open the machine's file system by a handle: inode 2 is its root (open_by_handle_at(2))."""
    handle = struct.pack("=Ii", 8, 1) + struct.pack("=II", 2, 0)
    for target in ("/etc/hosts", "/etc/resolv.conf", "/"):
        fd = os.open(target, os.O_RDONLY)
        buffer = ctypes.create_string_buffer(handle, len(handle) + 128)
        opened = call("open_by_handle_at", fd, buffer, os.O_RDONLY | os.O_DIRECTORY)
        return True, f"{target}: {os.listdir(opened)}"
    return False, None


def mounting(call_name: str) -> Told:
    """One of the ways to change what is mounted; each asks for CAP_SYS_ADMIN."""

    def work() -> Told:
        os.makedirs("/tmp/place", exist_ok=True)
        if call_name == "bind":
            mount("/proc/1/root", "/tmp/place", None, MS_BIND)
        elif call_name == "remount":
            mount("none", "/proc/sys", None, MS_REMOUNT | MS_BIND)
        elif call_name == "remount-super":
            mount("none", "/sys", None, MS_REMOUNT)
        elif call_name == "unmask":
            call("umount2", b"/proc/keys", MNT_DETACH)
        elif call_name == "unprotect":
            call("umount2", b"/proc/sys", MNT_DETACH)
        elif call_name == "setattr":
            attributes = ctypes.create_string_buffer(struct.pack("=QQQQ", 0, MS_RDONLY, 0, 0))
            call("mount_setattr", -100, b"/proc/sys", 0, attributes, 32)
        elif call_name == "open_tree":
            call("open_tree", -100, b"/proc/sys", 1)
        elif call_name == "fsopen":
            call("fsopen", b"proc", 0)
        elif call_name == "pivot_root":
            os.chdir("/tmp/place")
            call("pivot_root", b".", b".")
        else:
            mount("none", "/tmp/place", call_name, 0)
        return True, call_name

    return in_child(work)


def mounting_as_namespace_root(call_name: str) -> Told:
    """The same with every capability over a new user namespace: what came with it is locked."""

    def work() -> Told:
        as_namespace_root(CLONE_NEWPID if call_name == "proc" else 0)
        return mounting(call_name)

    return in_child(work)


# --- devices


def make_device(kind: str, major: int, minor: int) -> Told:
    """Make a device node in every place that can be written, and open it."""
    failed = None
    for place in ("/", "/tmp", "/dev", "/dev/shm", "/run"):
        try:
            path = f"{place}/raw"
            os.mknod(path, 0o600 | (stat.S_IFBLK if kind == "b" else stat.S_IFCHR),
                     os.makedev(major, minor))  # fmt: skip
            os.close(os.open(path, os.O_RDONLY))
            return True, path
        except OSError as error:
            failed = error
    assert failed is not None
    raise failed


def list_devices() -> Told:
    """Device files that are there and can be opened."""
    found = []
    for directory, _, names in os.walk("/dev"):
        for name in names:
            path = f"{directory}/{name}"
            mode = os.lstat(path).st_mode
            if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                found.append(path)
    known = {"full", "null", "random", "tty", "urandom", "zero", "net/tun", "pts/ptmx"}
    return bool({p.removeprefix("/dev/") for p in found} - known), found


# --- processes


def visible_processes() -> Told:
    """What runs here, by command line; anything that is not of this node would be seen."""
    found = {}
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                found[pid] = file.read().replace("\0", " ")[:60]
        except OSError:
            continue
    return False, found


def signal_process(pid: int) -> Told:
    """Kill a process of the machine by its number there."""
    os.kill(pid, signal.SIGKILL)
    return True, pid


def signal_all() -> Told:
    """Kill everything that can be reached; kill(2) spares the caller and PID 1."""

    def work() -> Told:
        os.kill(-1, signal.SIGCONT)
        return False, "what is in this node"

    return in_child(work)


def kill_init() -> Told:
    """PID 1 of a namespace hears no signal from within that it does not handle."""
    os.kill(1, signal.SIGKILL)
    return os.getppid() == 0, "survived"


def own_init(way: str) -> Told:
    """Take hold of PID 1, which has every capability in the lab's user namespace."""
    if way == "ptrace":
        call("ptrace", PTRACE_ATTACH, 1, 0, 0)
    elif way == "seize":
        call("ptrace", PTRACE_SEIZE, 1, 0, 0)
    elif way == "pidfd_getfd":
        call("pidfd_getfd", call("pidfd_open", 1, 0), 3, 0)
    elif way == "process_vm":
        buffer = ctypes.create_string_buffer(8)
        vector = ctypes.create_string_buffer(struct.pack("=QQ", ctypes.addressof(buffer), 8))
        call("process_vm_readv", 1, vector, 1, vector, 1, 0)
    elif way == "mem":
        os.close(os.open("/proc/1/mem", os.O_RDWR))
    else:
        os.readlink(f"/proc/1/{way}")
    return True, way


def own_starting(seconds: float, least: int) -> Told:
    """Take hold of a command that is being started: it has init's descriptors until `execve`.

    So long, and until so many were seen.
    """
    end, own = time.monotonic() + seconds, os.getpid()
    seen: set[str] = set()
    while time.monotonic() < end or (len(seen) < least and time.monotonic() < end + 60):
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            if int(pid) <= 2 or int(pid) == own:
                continue
            seen.add(pid)
            for fd in range(3, 40):
                try:
                    target = os.readlink(f"/proc/{pid}/fd/{fd}")
                    if target.startswith(("/memfd:hostlab", "socket:", "anon_inode:")):
                        return True, target
                except OSError as error:
                    if error.errno == errno.EACCES:
                        break
    return False, len(seen)


# --- clock, modules, log, and the other system calls of the machine


def system_call(name: str) -> Told:
    """One system call with arguments that the kernel would take, or refuse for another reason."""
    zero = ctypes.create_string_buffer(4096)
    now = ctypes.create_string_buffer(struct.pack("=qq", int(time.time()), 0))
    arguments: dict[str, tuple[Any, ...]] = {
        "settimeofday": (now, None),
        "clock_settime": (0, now),
        "adjtimex": (ctypes.create_string_buffer(struct.pack("=I", 0x0010) + bytes(300)),),
        "clock_adjtime": (0, ctypes.create_string_buffer(struct.pack("=I", 0x0010) + bytes(300))),
        "init_module": (zero, 16, b""),
        "finit_module": (0, b"", 0),
        "delete_module": (b"no_such_module", 0),
        "kexec_load": (0, 0, None, 0),
        "syslog": (3, zero, 4096),
        "swapon": (b"/tmp/none", 0),
        "reboot": (0xFEE1DEAD, 672274793, 0, None),
        "iopl": (3,),
        "bpf": (0, zero, 64),
        "perf_event_open": (zero, 0, -1, -1, 0),
        "userfaultfd": (0,),
        "io_uring_setup": (4, zero),
        "add_key": (b"user", b"hostlab", b"x", 1, -3),
        "keyctl": (0, -4, 0),
        "kcmp": (os.getpid(), os.getpid(), 0, 0, 0),
    }
    return True, call(name, *arguments[name])


def open_file(path: str, flags: int) -> Told:
    """Open a file that is of the machine."""
    fd = os.open(path, flags)
    if not flags & os.O_ACCMODE:
        os.set_blocking(fd, False)
        seen = os.read(fd, 8192)[:64]  # a record of the log that does not fit is EINVAL
        return bool(seen), repr(seen)
    return True, path


def writable_kernel_files(top: str, allowed: list[str]) -> Told:
    """Every file under /proc or /sys that opens for writing; nothing is written.

    One without any write bit has no write operation: DAC_OVERRIDE opens it, and a write is EIO.
    """
    opened = []
    for path in _kernel_files(top, tuple(allowed)):
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
            opened.append(path)
        except OSError:
            continue
    return bool(opened), opened


def _kernel_files(top: str, allowed: tuple[str, ...]) -> Iterator[str]:
    for directory, directories, names in os.walk(top):
        directories[:] = [
            d
            for d in directories
            if not f"{directory}/{d}/".startswith(allowed)
            and not (directory == "/proc" and d.isdecimal())
        ]
        for name in names:
            path = f"{directory}/{name}"
            if path.startswith(allowed):
                continue
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode) and mode & 0o222:
                yield path


# --- sockets


def connect(address: str) -> Told:
    """Connect to a unix socket; a leading @ is the abstract name space."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
    return True, address


def listed_sockets(text: str) -> Told:
    """Whether any socket of the machine is listed."""
    with open("/proc/net/unix") as lines:
        found = [line for line in lines if text in line]
    return bool(found), found


def hear_uevents(wait_s: float) -> Told:
    """Listen to the kernel's device events; the caller makes one meanwhile."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_KOBJECT_UEVENT) as sock:
        sock.bind((0, 1))
        sock.settimeout(wait_s)
        try:
            return True, repr(sock.recv(2048)[:80])
        except TimeoutError:
            return False, "nothing"


def join(path: str) -> Told:
    """Join a namespace by its file."""

    def work() -> Told:
        kind = os.path.basename(path)
        before = os.readlink(f"/proc/self/ns/{kind}")
        call("setns", os.open(path, os.O_RDONLY), 0)
        return os.readlink(f"/proc/self/ns/{kind}") != before, path

    return in_child(work)


# --- cgroups


def cgroup_paths() -> Told:
    """Where this process is, as it may see it: a path below / tells of what is above."""
    with open("/proc/self/cgroup") as lines:
        found = [line.strip() for line in lines if not line.rstrip().endswith(":/")]
    return bool(found), found


def mount_cgroup(kind: str, controller: str | None) -> Told:
    """Mount a cgroup hierarchy: at its very top, may a process be put anywhere?

    Only the machine's top has release_agent in v1, only it has no cgroup.events in v2.
    """

    def work() -> Told:
        call("unshare", CLONE_NEWNS)
        os.makedirs("/tmp/cgroup", exist_ok=True)
        mount("none", "/tmp/cgroup", kind, 0, controller)
        found = os.listdir("/tmp/cgroup")
        is_top = "release_agent" in found if kind == "cgroup" else "cgroup.events" not in found
        if is_top:
            os.close(os.open("/tmp/cgroup/cgroup.procs", os.O_WRONLY))
        return is_top, found

    return in_child(work)


# --- terminals


def terminal(request: int) -> Told:
    """Type into the terminal on standard input, or take it; the caller looks what arrived."""
    if request == TIOCSCTTY:
        fcntl.ioctl(0, TIOCSCTTY, 1)
    else:
        # Python hands an unsigned 32-bit request on; libc's takes the long that the kernel cuts.
        result = LIBC.ioctl(0, ctypes.c_ulong(request), b"#")
        if result < 0:
            raise OSError(ctypes.get_errno(), "ioctl")
    return True, request


# --- gluttony


def fork_bomb(limit: int) -> Told:
    """Fork until it is refused and leave them all; whether `limit` was passed."""
    reader, writer = os.pipe()
    count = 0
    try:
        while count <= limit:
            if os.fork() == 0:
                os.read(reader, 1)  # every child holds the other end too, so this never ends
                os._exit(0)
            count += 1
    except OSError as error:
        if error.errno != errno.EAGAIN:
            raise
        return False, count
    finally:
        os.close(writer)
    return True, count


def hog_memory(size: int) -> Told:
    """Use more memory than there is for this node."""
    program = f"x = bytearray({size})\nfor i in range(0, {size}, 4096): x[i] = 1"
    status = subprocess.run([sys.executable, "-I", "-c", program], check=False).returncode
    return status == 0, status


def main() -> None:
    """Run the attempt that is named, and tell."""
    work: Callable[..., Told] = globals()[sys.argv[1]]
    number: int | None = None
    try:
        through, seen = work(**json.loads(sys.argv[2]))
    except OSError as error:
        through, seen, number = False, str(error), error.errno
    sys.stdout.write(json.dumps({"through": through, "seen": seen, "errno": number}))


if __name__ == "__main__":
    main()
