"""Task namespaces of a test's own: of root, given to a plain user, or that user's with keepers."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hostlab.tasks.survey import task_cgroups
from tests.netns.cli.cli_site import ROOT, plain_users_python

LIMIT_S = 100
FIRST_USER = 100_000
"""Numbers above it are nobody's on this machine."""
DEADLINE_S = 60.0
KINDS = ("root", "given", "kept")
"""Root's own in v2; given by root to a plain user, in v1 here; a plain user's without cgroups."""
MESSAGE_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"


@dataclass
class TaskSite:
    """One namespace, called as the user that it is for."""

    kind: str
    directory: Path
    name: str
    user: int
    python: str
    path: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": self.path,
            "HOSTLAB_RUN": str(self.directory / "run"),
            "HOME": str(self.directory),
            "HOSTLAB_TEST_RUN": os.environ["HOSTLAB_TEST_RUN"],
        }

    @property
    def log(self) -> Path:
        return self.directory / "logs"

    def argv(self, *arguments: str) -> list[str]:
        return [self.python, "-m", "hostlab.cli.main", "task", self.name, *arguments]

    def start(self, *arguments: str, user: int | None = None) -> subprocess.Popen[str]:
        user = self.user if user is None else user
        return subprocess.Popen(
            self.argv(*arguments),
            env=self.environment,
            cwd=self.directory,
            user=user,
            group=user,
            extra_groups=[],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(
        self, *arguments: str, status: int | None = 0, user: int | None = None
    ) -> subprocess.CompletedProcess[str]:
        with self.start(*arguments, user=user) as process:
            try:
                out, error = process.communicate(timeout=LIMIT_S)
            except BaseException:
                process.kill()
                raise
        assert status is None or process.returncode == status, error + out
        return subprocess.CompletedProcess(arguments, process.returncode, out, error)

    def processes(self, task: str) -> list[dict[str, Any]]:
        """Those of a task that runs; none when it does not."""
        found = json.loads(self("dump").stdout)["tasks"]
        rows: list[dict[str, Any]] = found[task]["processes"] if task in found else []
        return rows

    def is_running(self, task: str) -> bool:
        return self("check", task, status=None).returncode == 0

    def record(self, task: str) -> dict[str, Any]:
        path = self.directory / f"run-tasks/{self.name}/tasks/{task}.json"
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def left(self) -> set[str]:
        """What is there beside the namespace itself: files of tasks, and their cgroups."""
        made = json.loads((self.directory / f"run-tasks/{self.name}/namespace.json").read_text())
        found = set(os.listdir(f"{made['directory']}/tasks"))
        for path in {made["tracker"], made["unified"], *made["v1"].values()} - {None}:
            found |= {f"{path}/{e.name}" for e in os.scandir(path) if e.is_dir()}
        return found


@contextmanager
def task_site(kind: str, name: str) -> Iterator[TaskSite]:
    """A namespace; whatever its tasks have become, nothing of them stays."""
    if os.geteuid() != 0:
        pytest.skip("only root can be both root and a plain user")
    place = Path(tempfile.mkdtemp(prefix="tasks-test-", dir="/tmp"))
    python, path = plain_users_python() if kind != "root" else (sys.executable, str(ROOT / "src"))
    # A user whom no other test has: what he may fork is counted over the whole machine.
    user = 0 if kind == "root" else FIRST_USER + os.getpid()
    site = TaskSite(kind, place, f"{name}-{os.getpid()}", user, python, path)
    os.chown(place, user, user)
    place.chmod(0o755)
    maker = user if kind == "kept" else 0
    given = ("-u", str(user), "-g", str(user)) if kind == "given" else ()
    try:
        site("init", "--logs", str(site.log), *given, user=maker)
        yield site
    finally:
        _end(site, maker)
        shutil.rmtree(place)


def _end(site: TaskSite, maker: int) -> None:
    if not (site.directory / f"run-tasks/{site.name}/namespace.json").exists():
        return
    for task in json.loads(site("dump", user=maker).stdout)["tasks"] if site.left() else ():
        site("stop", "--wait", "0,0,60", task, status=None)
    site("release", user=maker)
    assert not (site.directory / "run-tasks" / site.name).exists()
    assert not [path for path in task_cgroups() if f":{site.name}:" in path]


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Ask again until it holds; fails after the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not in {DEADLINE_S} s: {what}"
        select.select([], [], [], 0.02)
