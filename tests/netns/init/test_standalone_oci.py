"""`hostlab init` as PID 1 of a container that runc makes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.netns.init.job_site import wait_until

pytestmark = pytest.mark.netns

BIN = "/run/hostlab/.init/bin"
ENDS_WITHIN_S = 60
OWN_MOUNTS = ("proc", "sys", "dev", "run", "tmp")
JOBS = {
    "booted": "start on filesystem and container and net-device-up IFACE=lo and runlevel [2]\n"
    "exec sleep 1000",
    "show": "start on container\ntask\nexec echo $CONTAINER $GREETING $HOME",
    "gone": "start on runlevel [06]\ntask\nexec echo $RUNLEVEL",
    "orphans": "start on startup\ntask\nexec sh -c '(sh -c \"exit 3\" &) ; (sleep 0.2 &) ; exit 0'",
    "ignores": "start on startup\nkill timeout 1\nscript\ntrap '' TERM\necho trapped\nsleep 1000\n"
    "end script",
}


class Container:
    """A container of runc, with this machine's files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = f"hostlab-test-{os.getpid()}"
        self.share = root / "share"
        self.bundle = root / "bundle"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def runc(self) -> tuple[str, ...]:
        return ("runc", "--root", str(self.root / "runc"))

    def write(self) -> None:
        """A bundle: what is below `/` stands in it, read-only, but for the job files and logs."""
        subprocess.run(["runc", "spec"], cwd=self.bundle, check=True)
        path = self.bundle / "config.json"
        config: dict[str, Any] = json.loads(path.read_text())
        rootfs = self.bundle / "rootfs"
        mounts = [mount for mount in config["mounts"] if mount["type"] != "cgroup"]
        for entry in os.scandir("/"):
            if entry.is_symlink():
                (rootfs / entry.name).symlink_to(os.readlink(entry.path))
            elif entry.is_dir():
                (rootfs / entry.name).mkdir(parents=True)
                if entry.name not in OWN_MOUNTS:
                    mounts.append(bound(entry.path, "ro"))
        mounts += [
            {"destination": f"/{name}", "type": "tmpfs", "source": "tmpfs", "options": ["rw"]}
            for name in ("run", "tmp")
        ]
        mounts.append(bound(str(self.share), "rw"))
        words = ["--confdir", str(self.share / "jobs"), "--logdir", str(self.share / "logs")]
        process = config["process"]
        process["terminal"] = False
        process["args"] = [sys.executable, "-m", "hostlab.cli.main", "init", *words]
        path_variable = f"PATH={BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        source = Path(__file__).parents[3] / "src"
        process["env"] = [path_variable, f"PYTHONPATH={source}", "GREETING=hello", "container=runc"]
        config["root"] = {"path": "rootfs", "readonly": True}
        config["mounts"] = mounts
        namespaces = config["linux"]["namespaces"]
        config["linux"]["namespaces"] = [n for n in namespaces if n["type"] != "cgroup"]
        path.write_text(json.dumps(config))

    def start(self) -> None:
        with open(self.root / "said", "wb") as said:
            self.process = subprocess.Popen(
                [*self.runc, "run", "--bundle", str(self.bundle), self.name],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )

    def exec(self, *words: str) -> tuple[int, str]:
        done = subprocess.run(
            [*self.runc, "exec", self.name, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ENDS_WITHIN_S,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def kill(self, name: str) -> None:
        subprocess.run([*self.runc, "kill", self.name, name], check=True, timeout=ENDS_WITHIN_S)

    def ended(self) -> int:
        assert self.process is not None
        return self.process.wait(ENDS_WITHIN_S)

    def log(self, job: str) -> str:
        path = self.share / "logs" / f"{job}.log"
        return path.read_text() if path.exists() else ""


def bound(path: str, mode: str) -> dict[str, object]:
    return {"destination": path, "type": "bind", "source": path, "options": ["bind", mode]}


@contextmanager
def running(root: Path) -> Iterator[Container]:
    """A container with the jobs above, booted; gone at the end."""
    if shutil.which("runc") is None:
        pytest.skip("no runc: apt-get install runc")
    container = Container(root)
    for each in (container.bundle, container.share / "jobs"):
        each.mkdir(parents=True)
    for name, text in JOBS.items():
        (container.share / "jobs" / f"{name}.conf").write_text(text)
    container.write()
    container.start()
    try:
        wait_until(
            lambda: (
                "booted start/running" in container.exec("initctl", "list")[1]
                or container.process is None
                or container.process.poll() is not None
            ),
            "the boot",
        )
        assert container.process is not None
        assert container.process.poll() is None, (root / "said").read_text()
        yield container
    finally:
        assert container.process is not None
        with contextlib.suppress(subprocess.CalledProcessError):
            if container.process.poll() is None:
                container.kill("KILL")
        container.ended()
        subprocess.run(
            [*container.runc, "delete", "--force", container.name], capture_output=True, check=False
        )


def zombies(container: Container) -> str:
    return container.exec("sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null | grep ') Z' | cat")[1]


def test_container(tmp_path: Path) -> None:
    """It boots with the whole table, reaps, is asked from within, and ends in order."""
    with running(tmp_path) as container:
        assert container.exec("runlevel") == (0, "N 2\n")
        wait_until(lambda: bool(container.log("show")), "a log")
        assert container.log("show") == "runc hello /root\n"
        assert container.exec("cat", "/proc/1/comm")[1].startswith("python")
        wait_until(lambda: zombies(container) == "", "no zombies")
        assert container.exec("sh", "-c", "(sh -c 'exit 3' &); exit 4")[0] == 4
        wait_until(lambda: zombies(container) == "", "no zombies of commands")
        status, said = container.exec("start", "booted")
        assert (status, "already running" in said) == (1, True)
        wait_until(lambda: container.log("ignores") == "trapped\n", "a job that ignores TERM")
        container.kill("TERM")
        assert container.ended() == 0, (tmp_path / "said").read_text()
        assert container.log("gone") == "0\n"
        assert "killed by KILL signal" in (tmp_path / "said").read_text()


def test_supervisor_killed_and_halt(tmp_path: Path) -> None:
    """Killed, it is not missed; `halt` within ends the container, and `reboot` boots it again."""
    with running(tmp_path) as container:
        pid = container.exec("status", "booted")[1]
        supervisor = "for p in $(cat /proc/1/task/1/children); do echo $p; break; done"
        old = container.exec("sh", "-c", supervisor)[1].strip()
        assert container.exec("kill", "-9", old)[0] == 0
        assert container.exec("status", "booted") == (0, pid)
        (container.share / "logs" / "show.log").unlink()
        assert container.exec("reboot")[0] == 0
        wait_until(lambda: container.log("show") != "", "another boot")
        wait_until(
            lambda: "booted start/running" in container.exec("status", "booted")[1], "its end"
        )
        assert container.exec("halt")[0] in (0, 128 + signal.SIGKILL, 255)
        assert container.ended() == 0
