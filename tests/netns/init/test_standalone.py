"""`hostlab init` beside another init: what it starts, serves, survives, and leaves."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from hostlab.lab import remains
from hostlab.lab.paths import INIT, LabDirectory
from tests.netns.init.job_site import needs_v2, wait_until
from tests.netns.init.standalone_site import Alone, alive, standing

pytestmark = pytest.mark.netns

SOURCE = Path(__file__).parents[3] / "src"

JOBS = {
    "web": "start on startup\nexec sleep 1000",
    "hello": "task\nscript\necho hello from $UPSTART_JOB\nend script",
    "after": "start on thing KIND=big\nexec sleep 1000",
    "gate": "start on one and two\nexec sleep 1000",
    "net/deep": "exec sleep 1000",
}


def content(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def group(alone: Alone) -> list[str]:
    return remains.lab_cgroups(LabDirectory(INIT, str(alone.run.parent)).mark)


def test_commands(tmp_path: Path) -> None:
    with standing(tmp_path, JOBS) as alone:
        status, out, _ = alone("job", "list", "--init")
        assert status == 0
        assert [line.split()[1] for line in out.splitlines()[1:]] == sorted(JOBS)
        assert alone("job", "start", "--init", "net/deep")[0] == 0
        assert alone("job", "status", "--init", "net/deep")[1] == (
            f"net/deep start/running, process {alone.pid('net/deep')}\n"
        )
        assert alone("job", "emit", "--init", "thing", "KIND=big")[0] == 0
        assert alone.row("after")["state"] == "running"
        assert alone("job", "stop", "--init", "after")[0] == 0
        assert alone.row("after")["state"] == "stopped"
        assert alone("job", "emit", "--init", "--no-wait", "one")[0] == 0
        assert "one" in alone("job", "waits", "--init")[1]
        assert alone("job", "start", "--init", "hello")[0] == 0
        wait_until(
            lambda: alone("job", "log", "--init", "hello")[1] == "hello from hello\n",
            "the log of hello",
        )
        assert (
            alone.initctl("status", "web")[1] == f"web start/running, process {alone.pid('web')}\n"
        )
        status, _, err = alone("job", "start", "--init", "nothing")
        assert (status, "no job 'nothing' here" in err) == (2, True)


def test_monitor(tmp_path: Path) -> None:
    with standing(tmp_path, JOBS) as alone:
        words = (*_hostlab(), "monitor", "--init", "--count", "2", "--event", "th*")
        monitor = subprocess.Popen(words, env=alone.environment, stdout=subprocess.PIPE, text=True)
        assert monitor.stdout is not None
        with monitor:
            for line in monitor.stdout:
                if not line.strip():
                    break
            alone.client.emit("thing", [("KIND", "small")])
            alone.client.emit("thing", [("KIND", "tiny")])
            lines = monitor.stdout.read().splitlines()
        assert [line.split(" ", 2)[2] for line in lines] == [
            "thing KIND='small'",
            "thing KIND='tiny'",
        ]


def _hostlab() -> tuple[str, ...]:
    from tests.netns.init.standalone_site import HOSTLAB

    return HOSTLAB


def test_end_leaves_nothing(tmp_path: Path) -> None:
    stubborn = "start on startup\nscript\ntrap '' TERM\nsetsid sleep 1000 &\nsleep 1000\nend script"
    jobs = {**JOBS, "stubborn": f"kill timeout 1\n{stubborn}"}
    with standing(tmp_path, jobs) as alone:
        pids = [alone.pid("web"), alone.pid("stubborn"), alone.supervisor]
        children = Path(f"/proc/{pids[1]}/task/{pids[1]}/children")
        wait_until(lambda: len(children.read_text().split()) == 2, "what the job starts")
        pids += map(int, children.read_text().split())
        assert alone.stop() == 0
        wait_until(lambda: not any(map(alive, pids)), "the end of every process")
        assert group(alone) == []
        assert not alone.run.parent.exists()
        assert alone.audited() == {"running": [], "left": []}


def test_jobs_hear_of_the_end(tmp_path: Path) -> None:
    jobs = {
        "web": "start on startup\nstop on runlevel [06]\npost-stop exec echo gone\nexec sleep 1000"
    }
    with standing(tmp_path, jobs) as alone:
        assert alone.stop(signal.SIGINT) == 0
        assert (alone.logs / "web.log").read_text() == "gone\n"


def test_own_cgroup_and_audit(tmp_path: Path) -> None:
    needs_v2()
    with standing(tmp_path, JOBS) as alone:
        mark = LabDirectory(INIT, str(alone.run.parent)).mark
        line = Path(f"/proc/{alone.pid('web')}/cgroup").read_text().splitlines()[-1]
        assert line.endswith(f"/hostlab/{mark}/job.web/{line.rpartition('/')[2]}")
        assert mark not in Path(f"/proc/{alone.holder}/cgroup").read_text()
        found = alone.audited()
        assert [row["name"] for row in found["running"]] == [INIT]
        assert found["left"] == []


def test_limits(tmp_path: Path) -> None:
    needs_v2()
    jobs = {"small": "cgroup pids 7 pids.max 9\ntask\nexec true", "web": JOBS["web"]}
    jobs["small"] = "cgroup memory $UPSTART_CGROUP limit_in_bytes 52428800\nexec sleep 1000"
    with standing(tmp_path, jobs) as alone:
        alone.client.job("small", "start")
        lines = Path(f"/proc/{alone.pid('small')}/cgroup").read_text().splitlines()
        assert any("memory" in line and line.endswith("/job.small") for line in lines), lines


def test_second_is_refused(tmp_path: Path) -> None:
    with standing(tmp_path, JOBS) as alone:
        status, _, err = alone("init", "--confdir", str(alone.jobs))
        assert (status, "an init runs already in" in err) == (2, True)
        assert alone("init", "--clear")[0] == 2
        assert alone.row("web")["state"] == "running"


def test_ten_at_once_and_one_stands(tmp_path: Path) -> None:
    with standing(tmp_path, JOBS, is_up=False) as alone:
        words = (*_hostlab(), "init", "--confdir", str(alone.jobs), "--logdir", str(alone.logs))
        first = alone.process
        assert first is not None
        others = [
            subprocess.Popen(words, env=alone.environment, stderr=subprocess.DEVNULL)
            for _ in range(9)
        ]
        every = [first, *others]
        wait_until(lambda: sum(p.poll() is not None for p in every) == 9, "nine refusals")
        (alone.process,) = [p for p in every if p.poll() is None]
        assert {p.poll() for p in every} == {None, 2}
        alone.wait_up()
        assert alone.row("web")["state"] == "running"


def test_supervisor_killed(tmp_path: Path) -> None:
    with standing(tmp_path, JOBS) as alone:
        web = alone.pid("web")
        for _ in range(3):
            alone.client.job("after", "start")
            os.kill(alone.supervisor, signal.SIGKILL)
            alone.client.job("after", "stop")
            assert alone.pid("web") == web
        assert alive(web)
        assert alone.stop() == 0


def test_a_supervisor_whose_program_is_being_replaced(tmp_path: Path) -> None:
    """Each supervisor loads its program from files; while those are gone, nothing else is."""
    whole, half, installed = (tmp_path / name for name in ("whole", "half", "installed"))
    shutil.copytree(SOURCE / "hostlab", whole)
    half.mkdir()
    (half / "__init__.py").write_text("raise ImportError('half of it')")
    installed.mkdir()

    def install(tree: Path) -> None:
        # At once: where there was nothing, the next supervisor would be of the tests' own hostlab.
        link = tmp_path / "link"
        link.symlink_to(tree)
        link.replace(installed / "hostlab")

    install(whole)
    with standing(tmp_path, JOBS, environment={"PYTHONPATH": str(installed)}) as alone:
        web = alone.pid("web")
        install(half)
        os.kill(alone.supervisor, signal.SIGKILL)
        wait_until(lambda: "half of it" in alone.said, "a supervisor that cannot start")
        assert alive(web)
        with (whole / "linux" / "libc.py").open("a") as file:
            file.write("os.write(2, b'all of it anew')")
        install(whole)
        wait_until(lambda: web == alone.pid("web"), "a supervisor that can")
        assert "all of it anew" in alone.said
        assert alone.stop() == 0


def test_signals_to_dead_supervisors(tmp_path: Path) -> None:
    """One that comes when the supervisor has just been killed is the next one's."""
    with standing(tmp_path, JOBS) as alone:
        supervisor = alone.supervisor
        # Stopped, it is told and does not hear.
        os.kill(supervisor, signal.SIGSTOP)
        os.kill(alone.holder, signal.SIGTERM)
        wait_until(lambda: not pending(alone.holder), "a holder that has heard")
        os.kill(supervisor, signal.SIGKILL)
        assert alone.ended() == 0
        assert not alone.run.exists()


def pending(pid: int) -> bool:
    """Whether a signal waits for a process, which reads them from a descriptor."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return any(line.startswith("ShdPnd:") and int(line.split()[1], 16) for line in lines)


def test_killed_on_its_way_down(tmp_path: Path) -> None:
    slow = (
        "start on startup\nkill timeout 100\nscript\ntrap 'read x <F; exit 0' TERM\n"
        "touch F.trapped\nwhile :; do sleep 0.01; done\nend script"
    )
    fifo = tmp_path / "go-on"
    os.mkfifo(fifo)
    with standing(tmp_path, {"slow": slow.replace("F", str(fifo))}) as alone:
        wait_until(Path(f"{fifo}.trapped").exists, "a job that is not ended by TERM")
        old = alone.supervisor
        os.kill(alone.holder, signal.SIGTERM)
        alone.wait_state("slow", "stopping")
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: alone.supervisor != old, "another supervisor")
        alone.wait_state("slow", "stopping")
        fifo.write_text("\n")
        assert alone.ended() == 0
        assert not alone.run.exists()


def test_holder_killed(tmp_path: Path) -> None:
    """Its supervisor goes with it, its jobs stay: the audit names them, the next init ends them."""
    needs_v2()
    with standing(tmp_path, JOBS) as alone:
        web, supervisor = alone.pid("web"), alone.supervisor
        assert alone.stop(signal.SIGKILL) == -signal.SIGKILL
        wait_until(lambda: not alive(supervisor), "the end of the supervisor")
        assert alive(web)
        left = alone.audited()["left"]
        assert {row["kind"] for row in left} == {"cgroup", "run directory"}
        assert {row["remedy"] for row in left} == {"hostlab init --clear"}
        alone.start("--confdir", str(alone.jobs), "--logdir", str(alone.logs))
        alone.wait_up()
        assert not alive(web)
        assert alone.pid("web") != web
        assert alone.stop() == 0


def test_clear(tmp_path: Path) -> None:
    needs_v2()
    with standing(tmp_path, JOBS) as alone:
        web = alone.pid("web")
        alone.stop(signal.SIGKILL)
        assert alone("init", "--clear") == (0, "", "")
        wait_until(lambda: not alive(web), "the end of web")
        assert alone.audited()["left"] == []


def test_options(tmp_path: Path) -> None:
    for name in ("first", "last"):
        (tmp_path / name).mkdir()
    (tmp_path / "first" / "web.conf").write_text("start on begin\nconsole log\nexec echo first")
    (tmp_path / "last" / "web.conf").write_text("start on begin\nexec echo last")
    (tmp_path / "last" / "more.conf").write_text("start on begin\nexec echo more\n")
    words = (
        "--prepend-confdir", str(tmp_path / "first"),
        "--append-confdir", str(tmp_path / "last"),
        "--startup-event", "begin",
        "--default-console", "none",
    )  # fmt: skip
    usual = ("--confdir", str(tmp_path / "jobs"), "--logdir", str(tmp_path / "logs"))
    with standing(tmp_path, {"web": "start on begin\nexec echo usual"}, words=usual + words) as it:
        wait_until(lambda: content(it.logs / "web.log") != "", "a log")
        assert content(it.logs / "web.log") == "first\n"
        wait_until(lambda: it.row("more")["status"] == 0, "the end of more")
        assert not (it.logs / "more.log").exists()


def test_no_log_and_no_startup(tmp_path: Path) -> None:
    usual = ("--confdir", str(tmp_path / "jobs"), "--logdir", str(tmp_path / "logs"))
    words = (*usual, "--no-log", "--no-startup-event")
    with standing(
        tmp_path, {"loud": "task\nconsole log\nexec echo loud", **JOBS}, words=words
    ) as it:
        assert it.row("web")["state"] == "waiting"
        it.client.job("loud", "start")
        assert list(it.logs.iterdir()) == []


@pytest.mark.parametrize("inherits", [True, False])
def test_environment(tmp_path: Path, *, inherits: bool) -> None:
    usual = ("--confdir", str(tmp_path / "jobs"), "--logdir", str(tmp_path / "logs"))
    word = "--inherit-env" if inherits else "--no-inherit-env"
    jobs = {"show": "task\nexec echo $MINE:$HOME"}
    environment = {"MINE": "yes", "HOME": "/somewhere"}
    with standing(tmp_path, jobs, words=(*usual, word), environment=environment) as it:
        it.client.job("show", "start")
        expected = "yes:/somewhere\n" if inherits else ":/root\n"
        wait_until(lambda: content(it.logs / "show.log") != "", "a log")
        assert content(it.logs / "show.log") == expected
