"""A supervisor that becomes another program in place: nobody notices, nothing is lost."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import cache_from_source
from pathlib import Path

import pytest

import hostlab
from hostlab.errors import Failed
from tests.netns.init.job_site import wait_until
from tests.netns.init.standalone_site import Alone, alive, standing
from tests.netns.lab import lab_site

pytestmark = pytest.mark.netns

TIMES = 10
JOBS = {"web": "start on startup\nexec sleep 1000"}
VERSION = Path("hostlab/version.py")
SNAPSHOT = Path("hostlab/jobs/snapshot.py")


def slow_jobs(root: Path) -> dict[str, str]:
    """`slow` starts when somebody writes into `gate`."""
    os.mkfifo(root / "gate")
    return {
        "web": JOBS["web"],
        "boots": "start on startup\nconsole log\ntask\nexec echo booted",
        "slow": f"pre-start exec cat {root}/gate\nexec sleep 1000",
        "one": "task\ninstance $N\nexec true",
    }


def test_same_process_same_jobs(tmp_path: Path) -> None:
    with standing(tmp_path, slow_jobs(tmp_path)) as alone:
        web, supervisor = alone.pid("web"), alone.supervisor
        with alone.client.control() as early:
            early.call("ping")
            for _ in range(3):
                status, out, err = alone("job", "reexec", "--init", "--json")
                assert status == 0, err
                (row,) = json.loads(out)
                assert row["pid"] == supervisor
            assert early.call("ping") == {"pid": supervisor}
        assert alone.supervisor == supervisor
        assert alone.pid("web") == web
        log = alone.logs / "boots.log"
        wait_until(lambda: log.exists() and log.read_text() == "booted\n", "its line")
        assert alone.stop() == 0
        assert not alive(web)


def test_pending_requests_are_answered(tmp_path: Path) -> None:
    """By the new program, on the same connection; also those of initctl."""
    with (
        standing(tmp_path, slow_jobs(tmp_path)) as alone,
        alone.client.control() as pending,
        alone.client.control() as watching,
    ):
        watching.send("monitor")
        watching.receive()
        number = pending.send("job", name="slow", action="start")
        alone.wait_state("slow", "starting")
        client = subprocess.Popen(
            [str(alone.run / "bin/initctl"), "start", "slow"],
            env=alone.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        alone.client.reexec()
        (tmp_path / "gate").write_text("go\n")
        answer = pending.receive()
        assert answer["id"] == number
        assert [row["state"] for row in answer["ok"]] == ["running"]
        pid = answer["ok"][0]["pid"]
        out, err = client.communicate(timeout=60)
        assert (client.returncode, out + err) in [
            (1, "start: Job is already running: slow\n"),
            (1, "initctl: Job is already running: slow\n"),
            (0, f"slow start/running, process {pid}\n"),
        ]
        names = []
        while "started" not in names:
            got = watching.receive()
            names += [got["effect"].get("name", "")] if "effect" in got else []


def test_commands_keep_their_clients(tmp_path: Path) -> None:
    """What `exec` has started goes on over it, and whoever started it gets its status."""
    os.mkfifo(tmp_path / "until")
    with standing(tmp_path, JOBS) as alone, alone.client.control() as control:
        words = ["sh", "-c", f"cat {tmp_path}/until; exit 7"]
        null = os.open(os.devnull, os.O_RDWR)
        number = control.send("exec", [null, null, null], argv=words)
        os.close(null)
        pid = control.receive()["pid"]
        alone.client.reexec()
        alone.client.reexec()
        assert alive(pid)
        (tmp_path / "until").write_text("now\n")
        answer = control.receive()
        assert (answer["id"], answer["ok"]) == (number, {"status": 7, "signal": None})
        # And hanging up is still heard of.
        null = os.open(os.devnull, os.O_RDWR)
        control.send("exec", [null, null, null], argv=["sleep", "1000"])
        os.close(null)
        other = control.receive()["pid"]
        alone.client.reexec()
        control.close()
        wait_until(lambda: not alive(other), "the end of a command without a client")


def test_ten_under_load(tmp_path: Path) -> None:
    """Jobs that start and end, a log that grows, a client that asks: all of it goes on."""
    jobs = {
        "one": "task\ninstance $N\nexec true",
        "counts": "script\ni=0\nwhile [ $i -lt 200000 ]; do i=$((i+1)); echo $i; done\nend script",
        "web": JOBS["web"],
    }
    errors: list[BaseException] = []
    done: list[int] = []
    stop = threading.Event()

    def load(alone: Alone, first: int) -> None:
        try:
            number = first
            while not stop.is_set():
                rows = alone.client.job("one", "start", environment=[("N", str(number))])
                assert all(row["state"] != "failed" for row in rows)
                done.append(number)
                number += 2
        except BaseException as error:
            errors.append(error)

    def has_gone_on(before: int) -> bool:
        return len(done) > before or bool(errors)

    with standing(tmp_path, jobs) as alone:
        web = alone.pid("web")
        alone.client.job("counts", "start")
        threads = [threading.Thread(target=load, args=(alone, first)) for first in (0, 1)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(TIMES):
                before = len(done)
                alone.client.reexec()
                wait_until(partial(has_gone_on, before), "jobs go on")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert errors == []
        assert len(done) >= TIMES
        assert alone.pid("web") == web
        alone.wait_state("counts", "stopped")
        log = alone.logs / "counts.log"
        wait_until(lambda: log.read_bytes().endswith(b"\n200000\n"), "the last line")
        assert log.read_text().split() == [str(n) for n in range(1, 200001)]
        assert alone.stop() == 0


@contextmanager
def of_other_version(root: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """A tree of hostlab's own, compiled as that is, and the environment by which it is used."""
    shutil.copytree(Path(hostlab.__file__).parent, root / "tree" / "hostlab")
    yield root / "tree", {"PYTHONPATH": str(root / "tree"), "PYTHONDONTWRITEBYTECODE": "1"}


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    write(path, text.replace(old, new, 1))


def write(path: Path, text: str) -> None:
    """As compiled it goes: neither by its size nor by the second of its time it need differ."""
    Path(cache_from_source(path)).unlink(missing_ok=True)
    path.write_text(text)


def test_another_version_keeps_what_it_does_not_know(tmp_path: Path) -> None:
    """To a later one that stores more, back to one that does not know it, and on again."""
    with (
        of_other_version(tmp_path) as (tree, environment),
        standing(tmp_path, slow_jobs(tmp_path), environment=environment) as alone,
    ):

        def is_kept() -> bool:
            return stored(alone).get("novelty") == "kept"

        web = alone.pid("web")
        old = {path: (tree / path).read_text() for path in (VERSION, SNAPSHOT)}
        version = hostlab.__version__
        change(tree / VERSION, version, "99.1")
        change(
            tree / SNAPSHOT, "    apparmor: bool\n", "    apparmor: bool\n    novelty: str = ''\n"
        )
        change(
            tree / SNAPSHOT,
            "        apparmor=engine.apparmor,\n",
            "        apparmor=engine.apparmor,\n        novelty='kept',\n",
        )
        assert alone.client.reexec()["version"] == "99.1"
        wait_until(is_kept, "the holder has what the later version stores")
        for path, text in old.items():
            write(tree / path, text)
        assert alone.client.reexec()["version"] == version
        alone.client.job("one", "start", environment=[("N", "1")])
        assert is_kept()
        assert alone.pid("web") == web
        assert alone.stop() == 0


def stored(alone: Alone) -> dict[str, object]:
    """The snapshot that the holder keeps."""
    for fd in Path(f"/proc/{alone.holder}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # The holder has taken and closed it.
            if os.readlink(fd).startswith("/memfd:hostlab state"):
                found: dict[str, object] = json.loads(fd.read_bytes().partition(b"\n")[0])
                return found
    raise AssertionError("no state")


def test_version_that_cannot_read_is_refused(tmp_path: Path) -> None:
    """To a program that reads no state of this version: nothing happens, but that it is said."""
    with (
        of_other_version(tmp_path) as (tree, environment),
        standing(tmp_path, slow_jobs(tmp_path), environment=environment) as alone,
    ):
        web = alone.pid("web")
        change(tree / SNAPSHOT, "\nVERSION = 1\n", "\nVERSION = 0\n")
        with pytest.raises(Failed, match="The stored state has version 1"):
            alone.client.reexec()
        assert alone.client.job_table()
        alone.initctl("reload-configuration")
        # One that does not even start.
        write(tree / VERSION, "this is no Python")
        with pytest.raises(Failed, match="SyntaxError"):
            alone.client.reexec()
        assert alone.program(str(alone.run / "bin/telinit"), "u")[0] == 0
        wait_until(lambda: "it stays as it is" in alone.own_log, "a warning")
        assert alone.pid("web") == web
        write(tree / VERSION, Path(hostlab.__file__).with_name("version.py").read_text())
        change(tree / SNAPSHOT, "\nVERSION = 0\n", "\nVERSION = 1\n")
        alone.client.reexec()
        assert alone.stop() == 0


def test_holder_of_an_older_version(tmp_path: Path) -> None:
    """A later supervisor dies: the holder's own cannot read its state, and becomes it."""
    with (
        of_other_version(tmp_path) as (tree, environment),
        standing(tmp_path, slow_jobs(tmp_path), environment=environment) as alone,
    ):
        web = alone.pid("web")
        change(tree / SNAPSHOT, "\nVERSION = 1\n", "\nVERSION = 2\n")
        change(tree / VERSION, hostlab.__version__, "99.2")
        assert alone.client.reexec()["version"] == "99.2"
        for _ in range(2):
            os.kill(alone.supervisor, signal.SIGKILL)
            assert alone.pid("web") == web
        assert alone.client.reexec()["version"] == "99.2"
        # Nor can the installed one: the jobs go on, and it says what to do.
        change(tree / SNAPSHOT, "\nVERSION = 2\n", "\nVERSION = 1\n")
        old = alone.supervisor
        os.kill(old, signal.SIGKILL)
        status, _, err = alone("job", "list", "--init")
        assert (status, "has version 2" in err, alive(web)) == (3, True, True), err
        assert "install that version again" in err
        change(tree / SNAPSHOT, "\nVERSION = 1\n", "\nVERSION = 2\n")
        alone.client.reexec()
        assert alone.pid("web") == web
        assert alone.stop() == 0


def test_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a lab's node, by the command and by `telinit u`; where its boot stood it stays."""
    lab_site.needs_hostlab_in_nodes()
    with lab_site.site(tmp_path, monkeypatch) as site:
        lab = site.up(
            "nodes: {a: {jobs: {web: sleep 1000, down: {exec: sleep 1000, start_on: startup}}}}"
        )
        node = lab["a"]
        node.wait_settled()
        (before,) = [row for row in node.job_table() if row["name"] == "web"]
        with node.control() as control:
            pid = control.call("ping")["pid"]
        assert node.reexec()["pid"] == pid
        assert node.succeed("telinit u") == ""
        assert node.succeed("runlevel") == "N 2\n"
        (after,) = [row for row in node.job_table() if row["name"] == "web"]
        assert after == before
