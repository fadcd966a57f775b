"""What the holder says of stops, whom it adopts, and that it says everything again when asked."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hostlab.init.client import Control
from hostlab.init.holder import GONE, MAX_ORPHANS, Inheritance
from hostlab.init.readiness.daemons import look
from hostlab.init.spawning.process import ProcessSetup, spawn
from hostlab.init.supervisor import Request, Supervisor
from tests.netns.init.init_site import DEADLINE_S, control_of, holding
from tests.netns.init.ready_site import until

pytestmark = pytest.mark.netns

ORPHAN = 'sh -c "echo \\$\\$ > {name}.new; mv {name}.new {name}; read line < go; exit 7" & wait'
"""Started by a shell that is killed; the orphan ends with status 7 when `go` is written."""


class Told(Supervisor):
    """Writes down every word of the holder's, says what it is told to say."""

    directory: Path

    async def started(self) -> None:
        self.handlers |= {"run": self.run_one, "adopt": self.adopt_one, "wait": self.wait}
        self.handlers |= {"again": self.again, "told": self.list_told}

    def __init__(self, inheritance: Inheritance) -> None:
        super().__init__(inheritance)
        self.words: list[str] = []
        self.changed = asyncio.Event()

    def _told(self, text: str, fds: list[int]) -> None:
        self.words.append(text)
        self.changed.set()
        super()._told(text, fds)

    def is_settled(self, key: str) -> bool:
        return not key.startswith("unsettled")

    async def run_one(self, request: Request) -> int:
        command, key = request.message["command"], request.message["key"]
        setup = ProcessSetup(
            ("/bin/sh", "-c", command),
            {"PATH": "/usr/bin:/bin"},
            descriptors=(),
            directory=str(self.directory),
        )
        pid, pidfd = spawn(setup, key=key, channel=self.channel)
        os.close(pidfd)
        return pid

    async def adopt_one(self, request: Request) -> None:
        self.adopt(request.message["pid"], request.message["key"])

    async def again(self, request: Request) -> int:
        self.words.clear()
        self.channel.send(b"?")
        return os.getpid()

    async def wait(self, request: Request) -> list[str]:
        async with asyncio.timeout(DEADLINE_S / 2):
            while not any(word.startswith(request.message["word"]) for word in self.words):
                self.changed.clear()
                await self.changed.wait()
        return self.words

    async def list_told(self, request: Request) -> list[str]:
        return self.words


@contextmanager
def telling(directory: Path) -> Iterator[int]:
    """A holder with such a supervisor."""

    def make(inheritance: Inheritance) -> Told:
        supervisor = Told(inheritance)
        supervisor.directory = directory
        return supervisor

    os.mkfifo(directory / "go")
    with holding(directory, make) as holder:
        yield holder


def restart(directory: Path, control: Control) -> Control:
    """kill -9 the supervisor; a connection to the next one."""
    os.kill(control.call("ping")["pid"], signal.SIGKILL)
    assert control.socket.recv(1) == b""
    control.close()
    return control_of(directory)


def orphan(directory: Path, holder: int, control: Control, name: str = "orphan") -> int:
    """A child of the holder that has not introduced itself."""
    parent = control.call("run", command=ORPHAN.format(name=name), key="parent")
    until(lambda: (directory / name).exists())
    pid = int((directory / name).read_text())
    os.kill(parent, signal.SIGKILL)
    control.call("wait", word=f"- parent {parent} ")
    until(lambda: (found := look(pid)) is not None and found.parent == holder)
    return pid


def test_a_stop_is_told_and_told_again_until_it_goes_on(tmp_path: Path) -> None:
    with telling(tmp_path):
        control = control_of(tmp_path)
        pid = control.call("run", command="kill -STOP $$; exec sleep 1000", key="a key")
        control.call("wait", word=f"~ a key {pid}")
        control = restart(tmp_path, control)
        control.call("wait", word=".")
        assert f"~ a key {pid}" in control.call("told")
        os.kill(pid, signal.SIGCONT)
        until(lambda: " S " in Path(f"/proc/{pid}/stat").read_text())
        control = restart(tmp_path, control)
        assert [word for word in control.call("wait", word=".") if word[0] in "~+"] == [
            f"+ a key {pid}"
        ]
        control.close()


def test_a_stopped_supervisor_or_orphan_is_nobodys_business(tmp_path: Path) -> None:
    with telling(tmp_path) as holder, control_of(tmp_path) as control:
        pid = orphan(tmp_path, holder, control)
        os.kill(pid, signal.SIGSTOP)
        supervisor = control.call("ping")["pid"]
        os.kill(supervisor, signal.SIGSTOP)
        until(lambda: " T " in Path(f"/proc/{supervisor}/stat").read_text())
        os.kill(supervisor, signal.SIGCONT)
        assert control.call("ping")["pid"] == supervisor
        assert not [word for word in control.call("told") if word.startswith("~")]


def test_an_orphan_is_adopted_and_its_end_told_to_every_supervisor(tmp_path: Path) -> None:
    with telling(tmp_path) as holder:
        control = control_of(tmp_path)
        pid = orphan(tmp_path, holder, control)
        control.call("adopt", pid=pid, key="unsettled key")
        control = restart(tmp_path, control)
        assert f"+ unsettled key {pid}" in control.call("wait", word=".")
        (tmp_path / "go").write_text("\n")
        word = f"- unsettled key {pid} {7 << 8}"
        control.call("wait", word=word)
        control = restart(tmp_path, control)
        assert word in control.call("wait", word=".")
        control.close()


def test_one_that_ended_before_it_was_adopted_is_told_with_its_status(tmp_path: Path) -> None:
    with telling(tmp_path) as holder, control_of(tmp_path) as control:
        pid = orphan(tmp_path, holder, control)
        (tmp_path / "go").write_text("\n")
        control.call("wait", word=f"- ? {pid} {7 << 8}")
        control.call("adopt", pid=pid, key="late")
        control.call("wait", word=f"- late {pid} {7 << 8}")
        control.call("adopt", pid=pid, key="later")
        control.call("wait", word=f"- later {pid} {GONE}")


def test_who_is_no_child_or_anothers_is_not_adopted(tmp_path: Path) -> None:
    with telling(tmp_path), control_of(tmp_path) as control:
        control.call("adopt", pid=os.getpid(), key="mine")
        control.call("wait", word=f"- mine {os.getpid()} {GONE}")
        pid = control.call("run", command="exec sleep 1000", key="one")
        control.call("adopt", pid=pid, key="two")
        control.call("wait", word=f"- two {pid} {GONE}")
        os.kill(pid, signal.SIGKILL)
        control.call("wait", word=f"- one {pid} {signal.SIGKILL}")


def test_what_is_remembered_of_orphans_is_bounded(tmp_path: Path) -> None:
    with telling(tmp_path) as holder, control_of(tmp_path) as control:
        pid = orphan(tmp_path, holder, control)
        (tmp_path / "go").write_text("\n")
        control.call("wait", word=f"- ? {pid} ")
        many = f"for i in $(seq {MAX_ORPHANS + 1}); do (sleep 0 &); done; sleep 1000"
        parent = control.call("run", command=many, key="parent")

        def ended() -> int:
            return sum(word.startswith("- ? ") for word in control.call("told"))

        until(lambda: ended() >= MAX_ORPHANS + 2)
        control.call("adopt", pid=pid, key="late")
        control.call("wait", word=f"- late {pid} {GONE}")
        os.kill(parent, signal.SIGKILL)


def test_everything_is_told_again_on_request(tmp_path: Path) -> None:
    with telling(tmp_path), control_of(tmp_path) as control:
        stopped = control.call("run", command="kill -STOP $$; exec sleep 1000", key="stops")
        control.call("wait", word=f"~ stops {stopped}")
        ended = control.call("run", command="exit 3", key="unsettled")
        control.call("wait", word=f"- unsettled {ended} {3 << 8}")
        control.call("again")
        assert control.call("wait", word=".") == [
            f"+ stops {stopped}",
            f"- unsettled {ended} {3 << 8}",
            f"~ stops {stopped}",
            ".",
        ]


@pytest.mark.parametrize("word", ["*", "* 1", "* x key", "* -1 key", "~", "* 99999999 key"])
def test_nonsense_does_not_end_the_holder(tmp_path: Path, word: str) -> None:
    class Nonsense(Told):
        async def started(self) -> None:
            await super().started()
            self.handlers["say"] = self.say

        async def say(self, request: Request) -> None:
            self.channel.send(word.encode())

    def make(inheritance: Any) -> Told:
        supervisor = Nonsense(inheritance)
        supervisor.directory = tmp_path
        return supervisor

    with holding(tmp_path, make), control_of(tmp_path) as control:
        control.call("say")
        control.call("again")
        control.call("wait", word=".")
