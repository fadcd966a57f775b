"""An init without a lab, as its user has it: `hostlab init`, and the commands that ask it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hostlab.init.client import LocalInit
from hostlab.lab import remains
from hostlab.lab.paths import INIT, LabDirectory
from hostlab.lab.remains import Mark
from tests.netns.init.init_site import children
from tests.netns.init.job_site import wait_until

HOSTLAB = (sys.executable, "-m", "hostlab.cli.main")
ENDS_WITHIN_S = 60


class Alone:
    """A running init and its places."""

    def __init__(self, root: Path, environment: Mapping[str, str]) -> None:
        self.root = root
        self.jobs = root / "jobs"
        self.logs = root / "logs"
        self.environment = {**os.environ, **environment}
        self.run = Path(self.environment["HOSTLAB_RUN"]) / INIT
        self.process: subprocess.Popen[bytes] | None = None
        self.user: int | None = None
        """Who runs all of it, if not the caller."""
        self.hostlab = HOSTLAB

    @property
    def client(self) -> LocalInit:
        return LocalInit(str(self.run))

    @property
    def holder(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def supervisor(self) -> int:
        """The holder's child that holds init's own mark; waits for one."""
        found: list[int] = []

        def is_there() -> bool:
            found[:] = [pid for pid in children(self.holder) if is_init(pid)]
            return bool(found)

        wait_until(is_there, "a supervisor")
        return found[0]

    @property
    def said(self) -> str:
        """What init wrote on standard error."""
        return (self.root / "said").read_text()

    @property
    def own_log(self) -> str:
        path = self.run / "init.log"
        return path.read_text() if path.exists() else ""

    def job(self, name: str, text: str) -> None:
        """Write a job file, whole or not at all."""
        path = self.jobs / f"{name}.conf"
        path.parent.mkdir(parents=True, exist_ok=True)
        made = path.with_suffix(".new")
        made.write_text(text)
        made.rename(path)

    def start(self, *words: str) -> None:
        """Start it; whether it runs is not waited for."""
        with open(self.root / "said", "ab") as said:
            self.process = subprocess.Popen(
                [*self.hostlab, "init", *words],
                **self._who(),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd=self.root,
            )

    def wait_up(self) -> None:
        """Until its boot is over."""
        wait_until(lambda: self.client.is_there() or self.has_ended, "an init that answers")
        assert not self.has_ended, self.said
        if self.user is None:
            self.client.wait_settled(within_s=ENDS_WITHIN_S)

    @property
    def has_ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def ended(self) -> int:
        """Its exit status, when it has ended."""
        assert self.process is not None
        return self.process.wait(ENDS_WITHIN_S)

    def stop(self, number: int = signal.SIGTERM) -> int:
        os.kill(self.holder, number)
        return self.ended()

    def __call__(self, *words: str, **more: str) -> tuple[int, str, str]:
        """A command of hostlab: its status, output and errors."""
        return self.program(*self.hostlab, *words, **more)

    def program(self, *words: str, **more: str) -> tuple[int, str, str]:
        done = subprocess.run(
            words,
            **self._who(),
            cwd=self.root,
            env={**self.environment, **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ENDS_WITHIN_S,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def initctl(self, *words: str) -> tuple[int, str, str]:
        return self.program(str(self.run / "bin" / "initctl"), *words)

    def _who(self) -> dict[str, Any]:
        if self.user is None:
            return {}
        return {"user": self.user, "group": self.user, "extra_groups": []}

    def table(self) -> list[dict[str, Any]]:
        """Every job's row; another user's init answers only that user."""
        if self.user is None:
            return self.client.job_table()
        status, out, err = self("job", "list", "--init", "--json")
        assert status == 0, err
        found: list[dict[str, Any]] = json.loads(out)
        return found

    def row(self, name: str) -> dict[str, Any]:
        """The only row of a job."""
        (found,) = [row for row in self.table() if row["name"] == name]
        return found

    def pid(self, name: str) -> int:
        return int(self.row(name)["pid"])

    def wait_state(self, name: str, state: str) -> None:
        wait_until(lambda: self.row(name)["state"] == state, f"{name} {state}")

    def audited(self) -> dict[str, Any]:
        """What `hostlab audit` says of this directory: running, left."""
        _, out, _ = self("audit", "--json")
        found = json.loads(out)
        mark = LabDirectory(INIT, str(self.run.parent)).mark
        return {
            "running": [row for row in found["running"] if row["directory"] == str(self.run)],
            "left": [
                row
                for row in found["left"]
                if str(self.run) in row["what"] or mark in row["what"] or mark in row["remedy"]
            ],
        }


def is_init(pid: int) -> bool:
    """Whether a process carries the mark of an init; a job's has lost it at its `execve`."""
    found: Mark | None = remains.marks().get(pid)
    return found is not None and found.lab == INIT


def alive(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextlib.contextmanager
def standing(
    root: Path,
    jobs: Mapping[str, str] | None = None,
    *,
    words: Sequence[str] | None = None,
    environment: Mapping[str, str] | None = None,
    before: Callable[[Alone], None] | None = None,
    is_up: bool = True,
) -> Iterator[Alone]:
    """An init with these job files for the length of the block, ended whatever happens."""
    alone = Alone(root, {"HOSTLAB_RUN": str(root / "run"), **(environment or {})})
    alone.jobs.mkdir(exist_ok=True)
    for name, text in (jobs or {}).items():
        alone.job(name, text)
    usual = ("--confdir", str(alone.jobs), "--logdir", str(alone.logs))
    if before is not None:
        before(alone)
    alone.start(*(usual if words is None else words))
    try:
        if is_up:
            alone.wait_up()
        yield alone
    finally:
        end(alone)


def end(alone: Alone) -> None:
    """End it by force if need be, with all that it left."""
    assert alone.process is not None
    if alone.process.poll() is None and alone.user is not None:
        # Of one without a cgroup only itself finds what it has started.
        alone.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            alone.process.wait(ENDS_WITHIN_S)
    if alone.process.poll() is None:
        alone.process.kill()
        alone.process.wait(ENDS_WITHIN_S)
    place = LabDirectory(INIT, str(alone.run.parent))
    remains.clear(place)
    assert remains.lab_cgroups(place.mark) == []
