"""The set-up of a process: every step is done, and one that fails is named as Upstart names it."""

from __future__ import annotations

import errno
import os
import resource
import select
import shutil
import signal
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from hostlab.init.spawning.process import (
    DEFAULT_PATH,
    ProcessSetup,
    SpawnFailed,
    prepare_to_spawn,
    spawn,
    start,
)
from hostlab.linux.clone import CLONE_NEWNS, CLONE_NEWUSER, clone3
from hostlab.linux.libc import mount
from hostlab.linux.mounts import MS_REC
from tests.netns.init.job_site import TOKEN, run, wait

pytestmark = pytest.mark.netns
MS_SHARED = 1 << 20
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this")


def setup(*argv: str, **changes: Any) -> ProcessSetup:
    """A process in the test's own cgroup, as its own user."""
    values = {"environment": {"PATH": DEFAULT_PATH, TOKEN: os.environ[TOKEN]}, **changes}
    return ProcessSetup(argv, **values)


def shell(line: str, **changes: Any) -> ProcessSetup:
    return setup("sh", "-c", line, **changes)


def said(line: str, **changes: Any) -> str:
    """What a shell line says in a process that is set up like this."""
    ran = run(shell(line, **changes))
    assert ran.status == 0, ran
    return ran.out


@pytest.fixture
def root(open_path: Path) -> Path:
    """A root directory with a shell of its own, and a user that no other place knows."""
    for name in ("bin", "etc", "tmp", "var/tmp", "lib", "proc", "home/there"):
        (open_path / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("no busybox to put into another root")
    shutil.copy(busybox, open_path / "bin/busybox")
    for name in ("sh", "cat", "id", "true", "pwd", "touch"):
        (open_path / "bin" / name).symlink_to("busybox")
    (open_path / "etc/passwd").write_text(
        "root:x:0:0::/:/bin/sh\nthere:x:4711:4712::/home/there:\n"
    )
    (open_path / "etc/group").write_text("root:x:0:\nthere:x:4712:\nmore:x:4713:there\n")
    return open_path


def test_session_umask_directory_and_environment() -> None:
    session = said("ps -o sid= -p $$; echo $$").split()
    assert session[0] == session[1]
    assert said(
        "umask; pwd; echo $A", umask=0o027, directory="/usr/lib", environment={"A": "é"}
    ) == ("0027\n/usr/lib\né\n")


def test_limits_are_set_also_those_below_what_python_uses() -> None:
    limits = (
        (resource.RLIMIT_NOFILE, 5, 6),
        (resource.RLIMIT_AS, 20_000_000, 30_000_000),
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_CORE, 0, resource.RLIM_INFINITY),
    )
    # Whoever looks up a user opens files, with numbers above the limit to come.
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(9)]
    line = "ulimit -Sn; ulimit -Hn; ulimit -Sv; ulimit -Hv; ulimit -f"
    text = said(line, rlimits=limits, user="daemon" if os.geteuid() == 0 else None)
    for fd in held:
        os.close(fd)
    assert text.split() == ["5", "6", str(20_000_000 // 1024), str(30_000_000 // 1024), "0"]


@pytest.mark.parametrize(
    ("name", "text"), [("nproc", "Max processes"), ("nofile", "Max open files")]
)
def test_a_job_cannot_lift_what_its_node_limits(name: str, text: str) -> None:
    number = getattr(resource, f"RLIMIT_{name.upper()}")
    limits = ((number, 100, 100), (number, 50, 200))
    with pytest.raises(SpawnFailed, match=f'unable to set "{name}" resource limit'):
        start(shell("true", rlimits=limits), key="", channel=None)
    ran = run(setup("grep", text, "/proc/self/limits", rlimits=limits, lenient=True))
    assert ran.out.removeprefix(text).split()[:2] == ["50", "100"]
    assert ran.warnings == (
        f'unable to set "{name}" resource limit: Operation not permitted; it goes without',
    )


def test_priority_and_oom_adjustment() -> None:
    assert said("nice; cat /proc/self/oom_score_adj", nice=7, oom_score_adj=300) == "7\n300\n"


def test_what_a_user_may_not_do_is_a_warning_where_that_is_asked_for(tmp_path: Path) -> None:
    """In a user namespace nobody may raise a priority (can_nice() asks for it on the machine)."""
    told = tmp_path / "told"
    hear, say = os.pipe()
    pid, pidfd = clone3(CLONE_NEWUSER)
    if pid == 0:
        try:
            os.read(hear, 1)
            prepare_to_spawn()
            wanted = {"nice": -5, "oom_score_adj": -900}
            ran = run(shell("nice", lenient=True, **wanted))
            text = f"{ran}"
            try:
                start(shell("nice", **wanted), key="", channel=None)
            except SpawnFailed as failed:
                text += f" {failed.step}"
            told.write_text(text)
        finally:
            os._exit(0)
    for kind, own in (("uid", os.getuid()), ("gid", os.getgid())):
        if kind == "gid" and own:
            Path(f"/proc/{pid}/setgroups").write_text("deny")
        Path(f"/proc/{pid}/{kind}_map").write_text(f"0 {own} 1")
    os.write(say, b"x")
    os.close(hear)
    os.close(say)
    assert wait(pid, pidfd) == 0
    text = told.read_text()
    assert "status=0, out='0\\n'" in text
    assert "unable to set priority: Permission denied; it goes without" in text
    assert "unable to set oom adjustment" in text
    assert text.endswith(" set priority")


def test_descriptors_get_their_numbers_whatever_those_were_before(tmp_path: Path) -> None:
    files = [os.open(tmp_path / name, os.O_RDWR | os.O_CREAT) for name in "abc"]
    a, b, c = files
    # Each one's number is another's place, and 9 is taken, where a script would be.
    further = {b: a, a: c, c: b, 9: a}
    line = f'for n in {a} {b} {c} 9; do readlink /proc/self/fd/$n; done\necho "$0"'
    ran = run(setup("sh", "-e", script=line, further=further))
    for fd in files:
        os.close(fd)
    names = [Path(line).name for line in ran.out.splitlines()]
    assert names == ["c", "a", "b", "a", "8"]


def test_a_failure_is_heard_of_whatever_descriptors_a_job_has() -> None:
    with open("/dev/null") as null:
        further = dict.fromkeys(range(3, 100), null.fileno())
        with pytest.raises(SpawnFailed, match="unable to execute"):
            start(setup("/no/such", further=further), key="", channel=None)


def test_a_script_of_a_megabyte_and_what_it_starts_has_no_descriptor_of_it() -> None:
    line = ": " + "x" * 98 + "\n"
    script = line * 10_500 + "readlink /proc/self/fd/* || :\ncat\necho end\n"
    assert len(script) > 1 << 20
    reader, writer = os.pipe()
    os.write(writer, b"typed\n")
    os.close(writer)
    ran = run(setup("/bin/sh", "-e", script=script, descriptors=(reader, 1, 2)))
    os.close(reader)
    assert "memfd" not in ran.out
    assert ran.out.endswith("typed\nend\n")


@ROOT_ONLY
def test_another_user_reads_the_script_that_root_was_given() -> None:
    ran = run(setup("/bin/sh", "-e", script="id -u\nexit 3\n", user="65534"))
    assert (ran.status, ran.out) == (3, "65534\n")


def test_a_script_that_fails_ends_there() -> None:
    assert run(setup("/bin/sh", "-e", script="echo a\nfalse\necho b\n")).out == "a\n"


@ROOT_ONLY
def test_the_user_is_looked_up_behind_the_change_of_root(root: Path) -> None:
    environment = {"PATH": "/bin", "HOME": "/root", TOKEN: os.environ[TOKEN]}
    ran = run(
        setup(
            "sh",
            "-e",
            script='id -u\nid -g\nid -G\npwd\necho "$HOME $0"\n',
            chroot=str(root),
            user="there",
            directory="/home",
            environment=environment,
        )
    )
    assert ran.out == "4711\n4712\n4712 4713\n/home\n/home/there sh\n"
    assert ran.status == 0


@ROOT_ONLY
def test_groups_of_a_user_and_those_that_a_job_adds() -> None:
    assert said("id -u; id -g; id -G", user="nobody", group="daemon", groups=("bin", "77")) == (
        "65534\n1\n1 2 77\n"
    )


@pytest.mark.parametrize(
    ("changes", "step", "number"),
    [
        ({"further": {7: 1 << 19}}, "move descriptors", errno.EBADF),
        ({"script": "a\nb", "further": {7: 1 << 19}}, "move script fd", errno.EBADF),
        ({"controlling_tty": True}, "open console", errno.ENOTTY),
        ({"apparmor": "no-such"}, "switch security profile", None),
        ({"rlimits": ((resource.RLIMIT_CORE, 9, 8),)}, 'set "core" resource limit', errno.EINVAL),
        ({"rlimits": ((resource.RLIMIT_AS, 9, 8),)}, 'set "as" resource limit', errno.EINVAL),
        ({"oom_score_adj": 5000}, "set oom adjustment", errno.EINVAL),
        ({"chroot": "/no/such"}, "change root directory", errno.ENOENT),
        ({"directory": "/no/such"}, "change working directory", errno.ENOENT),
        ({"directory": "/etc/passwd"}, "change working directory", errno.ENOTDIR),
        ({"readonly_paths": ("/no/such",)}, "make /no/such read-only", errno.ENOENT),
        ({"private_tmp": True, "temporary": "/proc/no"}, "make a private /tmp", errno.ENOENT),
        ({"user": "who-knows"}, "find setuid user who-knows", 0),
        ({"group": "who-knows"}, "find setgid group who-knows", 0),
        ({"groups": ("who-knows",)}, "find setgid group who-knows", 0),
        ({"user": str(2**32 - 2), "group": str(2**33)}, "setgid", None),
        ({"user": str(2**33)}, "setgid", None),
        ({"user": str(2**33), "group": "0"}, "setuid", None),
        ({"seccomp": b"\xff" * 8}, "set seccomp filter", errno.EINVAL),
        ({"enter": (1 << 19,)}, "enter cgroup", errno.EBADF),
        ({"namespaces": (1 << 19,)}, "join namespace", errno.EBADF),
        ({"capabilities": ("FLY",)}, "set capabilities", errno.EINVAL),
    ],
)
def test_a_step_that_fails_is_named(changes: dict[str, Any], step: str, number: int | None) -> None:
    with pytest.raises(SpawnFailed) as caught:
        start(shell("true", **changes), key="", channel=None)
    failed = caught.value
    assert failed.step.split(" (")[0] == step
    assert number is None or failed.errno == number
    assert f"unable to {failed.step}" in failed.message


@pytest.mark.parametrize(
    ("argv", "number"),
    [
        (("no-such-program",), errno.ENOENT),
        (("/etc/passwd",), errno.EACCES),
        (("/",), errno.EACCES),
        (("tr\0ue",), errno.EINVAL),
        (("true", "x" * (1 << 18)), errno.E2BIG),
    ],
)
def test_a_program_that_cannot_be_executed(argv: tuple[str, ...], number: int) -> None:
    with pytest.raises(SpawnFailed, match="unable to execute") as caught:
        start(setup(*argv), key="", channel=None)
    assert caught.value.errno == number


def test_the_holder_that_is_gone_is_a_step_too() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    # Not a sibling of pytest: the reader of the channel is gone, and so no one else would reap it.
    with theirs:
        pid, pidfd = clone3(0)
        if pid == 0:
            try:
                spawn(shell("true"), key="k", channel=theirs)
            except SpawnFailed as failed:
                os._exit(7 if failed.step == "tell the holder" else 8)
            finally:
                os._exit(9)
        assert wait(pid, pidfd) == 7
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            break


def test_private_tmp_is_seen_by_no_other(tmp_path: Path) -> None:
    line = "touch /tmp/mine /var/tmp/mine; ls -a /tmp /var/tmp; stat -c %a /tmp /var/tmp"
    text = said(line, private_tmp=True)
    assert text.split() == [
        "/tmp:",
        ".",
        "..",
        "mine",
        "/var/tmp:",
        ".",
        "..",
        "mine",
        "1777",
        "1777",
    ]
    assert not Path("/tmp/mine").exists()
    assert " - tmpfs" not in " ".join(_mounts_at("/tmp"))
    shared = str(tmp_path / "private")
    said("echo one > /tmp/mine", private_tmp=True, temporary=shared)
    assert said("cat /tmp/mine; ls /var/tmp", private_tmp=True, temporary=shared) == "one\n"
    assert Path(shared).stat().st_mode & 0o777 == 0o700
    assert not Path("/tmp/mine").exists()


def test_a_sandbox_is_not_seen_where_mounts_are_shared() -> None:
    """As on a host that systemd has booted."""
    pid, pidfd = clone3(CLONE_NEWNS)
    if pid == 0:
        try:
            mount(b"none", b"/", None, MS_REC | MS_SHARED, None)
            before = Path("/proc/self/mountinfo").read_text()
            said("touch /tmp/mine", private_tmp=True, readonly_paths=("/etc",))
            os._exit(0 if Path("/proc/self/mountinfo").read_text() == before else 1)
        finally:
            os._exit(2)
    assert wait(pid, pidfd) == 0


def _mounts_at(target: str) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if line.split()[4] == target]


@ROOT_ONLY
def test_private_tmp_and_read_only_paths_are_those_behind_the_change_of_root(root: Path) -> None:
    (root / "tmp/theirs").touch()
    ran = run(
        setup(
            "sh",
            "-c",
            "cat /tmp/theirs; touch /tmp/mine /home/x && touch /etc/x",
            chroot=str(root),
            private_tmp=True,
            readonly_paths=("/etc",),
            environment={"PATH": "/bin", TOKEN: os.environ[TOKEN]},
        )
    )
    assert ran.out.count("No such file") == 1
    assert "touch: /etc/x: Read-only file system" in ran.out
    assert (root / "home/x").exists()
    assert not (root / "tmp/mine").exists()


def test_read_only_paths_are_so_with_what_is_mounted_below(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    line = f"touch {tmp_path}/b; touch {tmp_path}/a/b; touch /dev/shm/b; touch /proc/self/comm"
    paths = (str(tmp_path / "a"), "/dev")
    ran = run(shell(line, readonly_paths=paths))
    assert ran.out.count("Read-only") == 2
    assert (tmp_path / "b").exists()
    (tmp_path / "a/b").touch()


@ROOT_ONLY
def test_a_plain_user_has_a_sandbox_too(open_path: Path) -> None:
    """It comes from a user namespace, in which it is still the same user with no capability."""
    place = open_path / "theirs"
    place.mkdir()
    os.chown(place, 65534, 65534)
    pid, pidfd = clone3(0)
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            ran = run(
                shell(
                    "id -u; touch /tmp/mine; ls /tmp; touch /usr/x; grep Cap /proc/self/status",
                    capabilities=(),
                    private_tmp=True,
                    readonly_paths=("/usr",),
                    nice=-1,
                    lenient=True,
                    rlimits=((resource.RLIMIT_CORE, 0, 0),),
                )
            )
            for more in ({}, {"private_tmp": True}):
                with pytest.raises(SpawnFailed, match="capabilities: Operation not permitted"):
                    start(shell("true", capabilities=("NET_RAW",), **more), key="", channel=None)
            (place / "told").write_text(f"{ran.out}{ran.warnings}")
        finally:
            os._exit(0)
    assert wait(pid, pidfd) == 0
    text = (place / "told").read_text()
    assert text.startswith("65534\nmine\n")
    assert text.count(":\t0000000000000000") == 5
    assert "set priority" in text


def test_a_job_that_is_debugged_stops_before_its_program_and_holds_nothing_of_inits() -> None:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    started = start(shell("exit 5", debug=True), key="", channel=None)
    pid, status = os.waitpid(started.pid, os.WUNTRACED)
    assert (pid, os.WSTOPSIG(status)) == (started.pid, signal.SIGSTOP)
    assert "python" in Path(f"/proc/{pid}/exe").readlink().name
    assert set(os.listdir(f"/proc/{pid}/fd")) == {"0", "1", "2"}
    os.close(reader)
    os.close(writer)
    os.kill(pid, signal.SIGCONT)
    assert wait(pid, started.pidfd) == 5


def test_signals_are_as_a_program_expects_them() -> None:
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    kept = {n: signal.getsignal(n) for n in (signal.SIGPIPE, signal.SIGXFSZ)}
    try:
        text = run(setup("cat", "/proc/self/status")).out
    finally:
        signal.signal(signal.SIGUSR1, before)
        for number, handler in kept.items():
            signal.signal(number, handler)
    masks = dict(line.split(":\t") for line in text.splitlines() if line.startswith("Sig"))
    # 32 and 33 are glibc's own: what its posix_spawn starts, make for one, ignores them.
    own = 0b11 << 31
    found = {name: int(masks[name], 16) & ~own for name in ("SigBlk", "SigIgn", "SigCgt")}
    assert found == {"SigBlk": 0, "SigIgn": 0, "SigCgt": 0}


def test_a_filter_or_capabilities_of_a_user_are_those_of_the_program() -> None:
    if os.geteuid():
        pytest.skip("only root can become another user")
    load_return_allow = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)
    text = said(
        "grep -E 'CapEff|CapAmb|NoNewPrivs|Seccomp:' /proc/self/status",
        user="65534",
        capabilities=("NET_BIND_SERVICE",),
        ambient=True,
        no_new_privs=True,
        seccomp=load_return_allow,
    )
    values = dict(line.split(":\t") for line in text.splitlines())
    assert values == {
        "CapEff": "0000000000000400",
        "CapAmb": "0000000000000400",
        "NoNewPrivs": "1",
        "Seccomp": "2",
    }


def _is_inheritable(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


def test_nothing_is_open_but_what_was_given() -> None:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        inheritable = {fd for fd in os.listdir("/proc/self/fd") if _is_inheritable(int(fd))}
        assert set(said("ls /proc/self/fd").split()) == {"0", "1", "2", "3"} | inheritable
        ready, _, _ = select.select([reader], [], [], 0)
        assert not ready
    finally:
        os.close(reader)
        os.close(writer)


def test_what_may_not_be_missing_is_never_only_warned_of() -> None:
    for changes in ({"readonly_paths": ("/no",)}, {"chroot": "/no"}, {"capabilities": ("FLY",)}):
        with pytest.raises(SpawnFailed):
            start(shell("true", lenient=True, **changes), key="", channel=None)
