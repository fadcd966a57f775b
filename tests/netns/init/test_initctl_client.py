"""initctl's programs with real shells, a real holder and supervisors that are killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.init.initctl.install import install
from hostlab.init.initctl.programs import NAMES
from hostlab.jobs import facts
from tests.netns.init.initctl_site import DEADLINE_S, JOBS, Instant, Place, ended, serving, wait

pytestmark = pytest.mark.netns

SHELLS = {"sh": (), "dash": ("dash",), "busybox": ("busybox", "sh"), "bash": ("bash", "--posix")}
TOGETHER = 200
NOBODY = 65534
CALLS = 60
Requested = (facts.Emit, facts.JobRequest)


@pytest.fixture
def init(tmp_path: Path) -> Iterator[Place]:
    with serving(tmp_path) as place:
        yield place


@pytest.fixture(params=SHELLS)
def any_shell(init: Place, request: pytest.FixtureRequest) -> Place:
    """The init, with programs that each shell runs."""
    words = SHELLS[request.param]
    if words and shutil.which(words[0]) is None:
        pytest.skip(f"here: there is no {words[0]}")
    init.shell = words
    return init


def test_every_shell_runs_it(any_shell: Place) -> None:
    call = any_shell
    assert call("status", "foo") == (0, "foo stop/waiting\n", "")
    assert call("start", "foo") == (0, "foo start/running, process 1001\n", "")
    assert call("start", "foo") == (1, "", "start: Job is already running: foo\n")
    assert call("initctl", "stop", "foo") == (0, "foo stop/waiting\n", "")
    assert call("initctl", "emit", "count", "N=a b\nc\\d%s") == (0, "", "")
    assert call("runlevel") == (0, "N 2\n", "")
    call.wait_clean()


def test_arguments_and_variables_arrive_as_they_are(any_shell: Place) -> None:
    words = ["A= x  y ", "B=", "C=\\n\\0 %s $HOME `id` 'q' \"r\"", "D=*", "E=ä\n\n"]
    assert any_shell("emit", "-n", "x", *words)[0] == 0
    (emitted,) = (fact for fact in any_shell.told() if isinstance(fact, facts.Emit))
    assert [f"{key}={value}" for key, value in emitted.environment] == words
    assert any_shell("runlevel", RUNLEVEL="5", PREVLEVEL="") == (0, "N 5\n", "")


def test_a_long_answer(any_shell: Place) -> None:
    status, out, err = any_shell("initctl", "list")
    assert (status, err) == (0, "")
    assert len(out.splitlines()) == len(JOBS)
    status, out, err = any_shell("status", "x" * 9000)
    assert (status, out, err) == (1, "", f"status: Unknown job: {'x' * 9000}\n")
    any_shell.wait_clean()


def test_without_any_environment(init: Place) -> None:
    found = subprocess.run(
        [str(init.bin / "status"), "foo"], env={}, capture_output=True, text=True, check=True
    )
    assert found.stdout == "foo stop/waiting\n"


def test_a_root_with_busybox_alone(init: Place) -> None:
    """As a container's: no Python, no coreutils, no libraries."""
    busybox = Path(shutil.which("busybox") or "/nowhere")
    if not busybox.exists() or b"ld-linux" in busybox.read_bytes()[:4096]:
        pytest.skip("here: no busybox that needs no library")
    root = init.directory
    (root / "usr" / "bin").mkdir(parents=True)
    (root / "bin").rename(root / "ours")
    shutil.copy(busybox, root / "usr" / "bin" / "busybox")
    (root / "bin").symlink_to("usr/bin")
    for applet in ("sh", "mkfifo", "cat", "rm"):
        (root / "bin" / applet).symlink_to("busybox")
    install(str(root / "ours"), None, requests="/requests")
    for words, lines in ((("status", "foo"), 1), (("initctl", "list"), len(JOBS))):
        command = ["/usr/sbin/chroot", str(root), f"/ours/{words[0]}", *words[1:]]
        found = subprocess.run(
            command, env={}, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
        assert (found.returncode, found.stderr) == (0, "")
        assert len(found.stdout.splitlines()) == lines


def test_within_a_job_without_arguments(init: Place) -> None:
    """As `stop` in a pre-start script."""
    init("start", "tty", "TTY=a")
    inside = {"UPSTART_JOB": "tty", "UPSTART_INSTANCE": "a"}
    assert init("status", **inside) == (0, "tty (a) start/running, process 1001\n", "")
    assert init("stop", **inside)[0] == 0


def test_a_megabyte_of_environment(any_shell: Place) -> None:
    # execve takes 128 kB a word.
    words = [f"V{number}=" + "x" * 100_000 for number in range(10)]
    assert any_shell("emit", "big", *words) == (0, "", "")
    (emitted,) = (fact for fact in any_shell.told() if isinstance(fact, facts.Emit))
    assert sum(len(value) for _, value in emitted.environment) == 1_000_000


def test_many_at_once(init: Place) -> None:
    running = [init.begin("start", "tty", f"TTY={number}") for number in range(TOGETHER)]
    answers = [ended(process) for process in running]
    assert {status for status, _, _ in answers} == {0}
    said = [out.split(" start/running")[0] for _, out, _ in answers]
    assert said == [f"tty ({number})" for number in range(TOGETHER)]
    init.wait_clean()


def test_it_waits(init: Place) -> None:
    process = init.begin("start", "held")
    wait(lambda: "held start/spawned\n" in init("initctl", "list")[1], "the start")
    assert process.poll() is None
    os.kill(init.supervisor, signal.SIGUSR1)
    assert ended(process)[1].startswith("held start/running, process ")


def test_a_supervisor_that_dies_while_somebody_waits(init: Place) -> None:
    process = init.begin("start", "held")
    wait(lambda: "held start/spawned\n" in init("initctl", "list")[1], "the start")
    for _ in range(3):
        init.kill_supervisor()
        assert init("status", "held") == (0, "held start/spawned\n", "")
    assert process.poll() is None
    os.kill(init.supervisor, signal.SIGUSR1)
    assert ended(process)[0] == 0
    starts = [f for f in init.told() if isinstance(f, facts.Start) and f.job == "held"]
    assert len(starts) == 1
    init.wait_clean()


ONCE: dict[str, tuple[tuple[str, ...], str]] = {
    "start": (("start", "tty", "TTY=a"), "tty (a) start/running, process 1002\n"),
    "start-no-wait": (("start", "-n", "tty", "TTY=a"), "tty (a) start/running, process 1002\n"),
    "stop": (("stop", "foo"), "foo stop/waiting\n"),
    "restart": (("restart", "foo"), "foo start/running, process 1002\n"),
    "emit": (("emit", "count", "N=1"), ""),
    "emit-no-wait": (("initctl", "emit", "-n", "count", "N=1"), ""),
    "telinit": (("telinit", "3"), ""),
    "status": (("status", "foo"), "foo start/running, process 1001\n"),
}


@pytest.mark.parametrize("instant", Instant)
@pytest.mark.parametrize("call", ONCE)
def test_a_supervisor_that_dies_at_an_instant(tmp_path: Path, call: str, instant: Instant) -> None:
    """The next one answers, and what was done is not done again."""
    words, expected = ONCE[call]
    with serving(tmp_path) as init:
        # Of a supervisor that does not die, for what stops and restarts.
        assert init("start", "foo")[0] == 0
        init.wait_clean()
    before = len(init.told())
    with serving(tmp_path, instant) as init:
        status, out, err = init(*words)
        assert (status, err) == (0, "")
        assert out == expected
        never = {
            "status": {Instant.BEFORE_TAKING, Instant.TAKEN},
            "telinit": {Instant.BEFORE_TAKING},
        }
        if instant not in never.get(call, ()):
            wait((tmp_path / "died").exists, "its death")
        init.wait_clean()
        # The next one is there, and nothing dies while this test ends.
        assert init("runlevel") == (0, "N 2\n", "")
        taken = [fact for fact in init.told()[before:] if isinstance(fact, Requested)]
        assert len(taken) == (call != "status")


def test_nothing_is_lost_or_done_twice_however_often_it_dies(init: Place) -> None:
    """Each call is carried out once and gets its own answer."""
    running = {}
    for number in range(CALLS):
        words = {
            0: ("start", "tty", f"TTY={number}"),
            1: ("emit", "-n", "count", f"N={number}"),
            2: ("initctl", "emit", "count", f"N={number}"),
        }[number % 3]
        running[number] = init.begin(*words)
    for count in range(CALLS // 5, CALLS, CALLS // 5):
        wait(lambda count=count: len(requests(init)) >= count, "requests")  # type: ignore[misc]  # mypy infers no type of a lambda's default
        init.kill_supervisor()
    for number, process in running.items():
        status, out, err = ended(process)
        assert (status, err) == (0, ""), number
        assert number % 3 or out.startswith(f"tty ({number}) start/running, process ")
    names = [
        int(dict(fact.environment).get("N") or dict(fact.environment)["TTY"])
        for fact in requests(init)
    ]
    assert sorted(names) == list(range(CALLS))
    init.wait_clean()


def requests(init: Place) -> list[facts.Emit | facts.JobRequest]:
    """Those that the engine took."""
    return [fact for fact in init.told() if isinstance(fact, Requested)]


def test_clients_that_are_killed(init: Place) -> None:
    for _ in range(20):
        process = init.begin("start", "held", "-n")
        process.kill()
        ended(process)
    waiting = [init.begin("initctl", "emit", "count", f"N={n}") for n in range(20)]
    for process in waiting:
        process.kill()
        ended(process)
    assert init("status", "foo")[0] == 0
    old = [name for name in init.left() if "." not in name]
    for name in old:
        # Those that had not asked yet are left for a while, since they look like new ones; those
        # that had go meanwhile.
        with contextlib.suppress(FileNotFoundError):
            os.utime(init.requests / name, (1, 1))
    init.kill_supervisor()
    assert init("status", "foo")[0] == 0
    init.wait_clean()


def test_a_client_that_is_stopped_stops_nobody(init: Place) -> None:
    process = init.begin("start", "held")
    wait(lambda: "held start/spawned\n" in init("initctl", "list")[1], "the start")
    os.kill(process.pid, signal.SIGSTOP)
    os.kill(init.supervisor, signal.SIGUSR1)
    wait(lambda: "held start/running" in init("status", "held")[1], "the start")
    os.kill(process.pid, signal.SIGCONT)
    assert ended(process)[0] == 0


def test_calls_while_there_is_no_supervisor(init: Place) -> None:
    os.kill(init.holder, signal.SIGSTOP)
    try:
        os.kill(init.supervisor, signal.SIGKILL)
        process = init.begin("start", "foo")
        wait(lambda: any(name.endswith(".args") for name in init.left()), "the request")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.05)
    finally:
        os.kill(init.holder, signal.SIGCONT)
    assert ended(process)[1] == "foo start/running, process 1001\n"


@pytest.mark.parametrize("program", ["initctl", "telinit"])
def test_an_init_that_is_gone(tmp_path: Path, program: str) -> None:
    with serving(tmp_path) as init:
        pass
    status, out, err = init(program, "list")
    reason = f"{init.requests}: Connection refused"
    assert (status, out) == (1, "")
    assert err == f"{program}: Unable to connect to Upstart: {reason}\n"
    shutil.rmtree(init.requests)
    assert init(program, "q")[2].endswith(": No such file or directory\n")


def test_somebody_else(open_path: Path) -> None:
    with serving(open_path) as init:
        found = subprocess.run(
            [str(init.bin / "start"), "foo"],
            env=init.environment(),
            user=NOBODY,
            group=NOBODY,
            extra_groups=(),
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert found.returncode == 1
        assert found.stderr.endswith(f"{init.requests}: Permission denied\n")
        assert init("status", "foo")[1] == "foo stop/waiting\n"


def test_a_session_says_where_it_is(init: Place, tmp_path: Path) -> None:
    install(str(tmp_path / "other"), None, requests="/nowhere")
    session = f"hostlab:{init.requests}"
    program = str(tmp_path / "other" / "status")
    found = subprocess.run(
        [program, "foo"],
        env=init.environment(UPSTART_SESSION=session),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (found.stdout, found.stderr) == ("foo stop/waiting\n", "")


def test_what_is_planted_hurts_nobody(init: Place, tmp_path: Path) -> None:
    requests = init.requests
    secret = tmp_path / "secret"
    secret.write_bytes(b"nfoo\0.\0")
    planted = ["1", "2", "3", "4", "5", "6", "7", "8"]
    holders = []
    for name in planted:
        os.mkfifo(requests / name, 0o600)
        # Somebody reads them, so that they look like clients.
        holders.append(os.open(requests / name, os.O_RDWR | os.O_NONBLOCK))
    (requests / "1.args").symlink_to(secret)
    os.mkfifo(requests / "2.args")
    (requests / "3.args").mkdir()
    with (requests / "4.args").open("wb") as huge:
        huge.truncate(2**40)
    (requests / "5.args").write_bytes(b"nstatus\0afoo\0")  # Not all of it.
    (requests / "6.args").write_bytes(b"\xff\xfe\0zz\0.\0")
    os.mknod(requests / "7.args", stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero
    (requests / "10").symlink_to("/dev/zero")
    (requests / "11").mkdir()
    (requests / "12").write_bytes(b"x" * 100)
    os.mknod(requests / "13", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    (requests / "13.args").write_bytes(b"nstatus\0afoo\0.\0")
    names = [
        *planted,
        "10",
        "11",
        "12",
        "13",
        "../secret",
        "",
        "requests",
        "x" * 300,
        "-1",
        "1.args",
    ]
    try:
        fifo = os.open(requests / "requests", os.O_RDWR | os.O_NONBLOCK)
        os.write(fifo, b"\0\xff\n" * 400 + "\n".join(names).encode() + b"\n")
        os.write(fifo, b"\n")
        os.close(fifo)
        assert init("status", "foo") == (0, "foo stop/waiting\n", "")
        init.kill_supervisor()
        assert init("status", "foo") == (0, "foo stop/waiting\n", "")
        refused: set[str] = set()

        def are_refused() -> bool:
            refused.update(n for n, fd in zip(planted, holders, strict=True) if _reads(fd))
            return refused >= {"1", "2", "3", "4", "6", "7"}

        wait(are_refused, "an answer to what is none")
        assert refused == {"1", "2", "3", "4", "6", "7"}
    finally:
        for fd in holders:
            os.close(fd)
    assert secret.read_bytes() == b"nfoo\0.\0"
    assert (requests / "12").read_bytes() == b"x" * 100


def _reads(fd: int) -> bool:
    try:
        return b"\nx 1\n" in os.read(fd, 65536)
    except BlockingIOError:
        return False


def test_a_planted_file_in_place_of_an_answer(init: Place, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    process = init.begin("start", "held")
    wait(lambda: "held start/spawned\n" in init("initctl", "list")[1], "the start")
    (name,) = waiting(init, 1)
    (init.requests / f"{name}.out").symlink_to(victim)
    os.kill(init.supervisor, signal.SIGUSR1)
    assert ended(process)[0] == 0
    assert victim.read_text() == "mine"


def waiting(init: Place, count: int) -> list[str]:
    """The names of so many who wait, once the files of those who have their answer are gone."""
    found: list[str] = []

    def are_alone() -> bool:
        found[:] = [name for name in init.left() if "." not in name]
        return len(found) == count

    wait(are_alone, f"only {count} to wait")
    return found


def test_planted_names_of_the_server_itself(tmp_path: Path) -> None:
    requests = tmp_path / "requests"
    requests.mkdir()
    (requests / "requests").mkdir()
    (requests / "requests" / "x").write_text("x")
    (requests / "holder").symlink_to("/nowhere/holder")
    (requests / ".holder").mkdir()
    with serving(tmp_path) as init:
        wait(lambda: (init.requests / "requests").is_fifo(), "the server")
        assert init("status", "foo") == (0, "foo stop/waiting\n", "")


def test_the_fifo_is_the_holder_s_and_survives(init: Place) -> None:
    wait(init.is_held, "the FIFO at the holder")
    (init.requests / "requests").unlink()
    init.kill_supervisor()
    wait((init.requests / "requests").exists, "the FIFO")
    assert init("status", "foo")[0] == 0
    wait(init.is_held, "the new FIFO at the holder")


def test_a_name_that_is_taken(any_shell: Place) -> None:
    program = " ".join([*any_shell.shell, str(any_shell.bin / "status"), "foo"])
    taken = f"{any_shell.requests}/$$"
    found = subprocess.run(
        ["sh", "-c", f"mkfifo {taken} {taken}.1; exec {program}"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (found.stdout, found.stderr) == ("foo stop/waiting\n", "")


def test_names_in_sbin_are_only_added(tmp_path: Path) -> None:
    sbin = tmp_path / "sbin"
    sbin.mkdir()
    (sbin / "shutdown").write_text("theirs")
    (sbin / "reboot").symlink_to("/nowhere")
    for _ in range(2):
        assert install(str(tmp_path / "bin"), str(sbin)) == str(tmp_path / "bin")
    assert sorted(os.listdir(tmp_path / "bin")) == sorted(NAMES)
    assert sorted(os.listdir(sbin)) == sorted(NAMES)
    assert (sbin / "shutdown").read_text() == "theirs"
    assert os.readlink(sbin / "reboot") == "/nowhere"
    assert os.readlink(sbin / "start") == str(tmp_path / "bin" / "initctl")
    assert (tmp_path / "bin" / "initctl").stat().st_mode & 0o777 == 0o755
    install(str(tmp_path / "bin"), str(tmp_path / "nowhere"))


def test_what_has_a_program_s_name_is_replaced_and_not_followed(tmp_path: Path) -> None:
    place = tmp_path / "bin"
    place.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (place / "initctl").symlink_to(victim)
    (place / "start").write_text("old")
    install(str(place), None)
    assert victim.read_text() == "mine"
    assert os.readlink(place / "start") == "initctl"
