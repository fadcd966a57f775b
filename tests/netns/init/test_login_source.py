"""Logins as events: from a stand-in for logind on a real bus, and from utmp; the two agree."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Message, Variant
from dbus_fast.constants import MessageType

from hostlab.init.dbus.link import connect
from hostlab.init.sources import Surroundings
from hostlab.init.sources.login import KEPT, LoginSource
from hostlab.jobs.facts import Emit
from hostlab.jobs.login_event import CLOSED, OPENED, USER_ADDED, USER_REMOVED
from hostlab.linux import utmp
from hostlab.linux.utmp import Login
from hostlab.spec.job import Match
from tests.netns.init.bus_site import bus, needs_bus

pytestmark = [pytest.mark.netns, needs_bus]

DEADLINE_S = 20.0
NAMES = (OPENED, CLOSED, USER_ADDED, USER_REMOVED)


class Init:
    """What a source needs of an init, and what it has told."""

    def __init__(self, variables: dict[str, str] | None = None) -> None:
        # An address where no bus ever is, so that a machine's own is left alone.
        self.variables = variables or {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nowhere/bus"}
        self.told: list[tuple[str, dict[str, str]]] = []
        self.warnings: list[str] = []
        self.kept: dict[str, int] = {}
        self.changed = asyncio.Event()

    def source(self, file: Path, names: tuple[str, ...] = NAMES) -> LoginSource:
        surroundings = Surroundings(
            self.tell, self.warn, self.keep, self.drop, self.kept,
            variables=lambda: self.variables,
        )  # fmt: skip
        source = LoginSource(surroundings, str(file))
        source.listen(frozenset(Match(name) for name in names))
        return source

    def tell(self, emit: Emit) -> None:
        self.told.append((emit.name, dict(emit.environment)))
        self.changed.set()

    def warn(self, text: str) -> None:
        self.warnings.append(text)
        self.changed.set()

    def keep(self, name: str, fd: int) -> None:
        self.drop(name)
        self.kept[name] = os.dup(fd)
        self.changed.set()

    def drop(self, name: str) -> None:
        if name in self.kept:
            os.close(self.kept.pop(name))

    def names(self) -> list[str]:
        return [name for name, _ in self.told]

    async def wait(self, condition: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not condition():
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            raise AssertionError(f"told {self.told}, warned {self.warnings}") from None


@dataclass
class Person:
    """Somebody who logs in; the process is real, and is who wrote the record."""

    number: int
    user: str
    uid: int
    tty: str
    service: str = "login"
    type: str = "tty"
    host: str = ""
    display: str = ""
    pid: int = 0

    @property
    def path(self) -> str:
        return f"/org/freedesktop/login1/session/_3{self.number}"


class Utmp:
    """A utmp that is written as libc writes it: one record at a time, in place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[str] = []

    def write(self, person: Person, *, kind: int = utmp.USER_PROCESS) -> None:
        line = person.tty or person.display
        if line not in self.lines:
            self.lines.append(line)
        record = utmp.encode(Login(person.pid, line, person.user, person.host), kind=kind)
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
        os.pwrite(fd, record, self.lines.index(line) * len(record))
        os.close(fd)

    def end(self, person: Person) -> None:
        self.write(person, kind=8)

    def append(self, data: bytes) -> None:
        with open(self.path, "ab") as file:
            file.write(data)


class StandInLogind:
    """Not logind, which wants the machine: what it says on a bus, from its manual."""

    def __init__(self) -> None:
        self.people: dict[str, Person] = {}

    async def start(self, address: str) -> None:
        self.bus = await connect(address)
        self.bus.add_message_handler(self._serve)
        await self.bus.request_name("org.freedesktop.login1")

    async def stop(self) -> None:
        self.bus.disconnect()
        await self.bus.wait_for_disconnect()  # type: ignore[no-untyped-call]  # dbus-fast does not type it

    def open(self, person: Person) -> None:
        self.people[str(person.number)] = person
        self._signal("SessionNew", person)

    def close(self, person: Person) -> None:
        del self.people[str(person.number)]
        self._signal("SessionRemoved", person)

    def _signal(self, member: str, person: Person) -> None:
        manager = "org.freedesktop.login1.Manager"
        body = [str(person.number), person.path]
        self.bus.send(Message.new_signal("/org/freedesktop/login1", manager, member, "so", body))

    def _serve(self, message: Message) -> Message | bool | None:
        if message.message_type is not MessageType.METHOD_CALL:
            return None
        if message.member == "ListSessions":
            rows = [[key, p.uid, p.user, "", p.path] for key, p in self.people.items()]
            return Message.new_method_return(message, "a(susso)", [rows])
        for person in self.people.values():
            if person.path == message.path:
                return Message.new_method_return(message, "a{sv}", [_properties(person)])
        return Message.new_error(message, "org.freedesktop.DBus.Error.UnknownObject", "gone")


def _properties(person: Person) -> dict[str, Any]:
    user_path = f"/org/freedesktop/login1/user/_{person.uid}"
    return {
        "Id": Variant("s", str(person.number)),
        "Name": Variant("s", person.user),
        "User": Variant("(uo)", [person.uid, user_path]),
        "Type": Variant("s", person.type),
        "Service": Variant("s", person.service),
        "Class": Variant("s", "greeter" if person.user == "gdm" else "user"),
        "Remote": Variant("b", bool(person.host)),
        "RemoteHost": Variant("s", person.host),
        "TTY": Variant("s", person.tty),
        "Display": Variant("s", person.display),
        "TimestampMonotonic": Variant("t", time.monotonic_ns() // 1000),
    }


@pytest.fixture
def people(tmp_path: Path) -> Iterator[list[Person]]:
    """Root at a terminal, twice; over ssh from an address; and in a display manager's session."""
    found = [
        Person(1, "root", 0, "tty1"),
        Person(2, "root", 0, "pts/0", service="sshd", host="192.0.2.7"),
        Person(3, "daemon", 1, "pts/1", service="sshd", host="2001:db8::1"),
        Person(4, "daemon", 1, "", service="lightdm", type="x11", display=":0"),
        Person(5, "nobody", 65534, "tty2", service="gdm", type="wayland"),
    ]
    with processes(tmp_path, found):
        yield found


@contextmanager
def processes(root: Path, people: list[Person]) -> Iterator[None]:
    """A process for each, which has the name of who let the person in."""
    running = []
    for person in people:
        program = root / person.service
        if not program.exists():
            program.symlink_to("/bin/sleep")
        environment = {"XDG_SESSION_TYPE": person.type}
        running.append(subprocess.Popen([str(program), "1000"], env=environment))
        person.pid = running[-1].pid
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


@asynccontextmanager
async def opened(init: Init, file: Path, **more: Any) -> AsyncIterator[LoginSource]:
    source = init.source(file, **more)
    try:
        yield source
    finally:
        source.close()


async def play(
    people: list[Person], init: Init, come: Callable[[Person], None], go: Callable[[Person], None]
) -> list[tuple[str, dict[str, str]]]:
    """All of them come, one after the other, and go; what was told of it, without session names."""
    for act in (come, go):
        for person in people:
            before = len(init.told)
            act(person)
            event = OPENED if act is come else CLOSED

            def is_told(count: int = before, name: str = event) -> bool:
                return name in init.names()[count:]

            await init.wait(is_told)
    last = USER_REMOVED
    await init.wait(lambda: init.names().count(last) == init.names().count(USER_ADDED))
    return [
        (name, {key: value for key, value in variables.items() if key != "SESSION"})
        for name, variables in init.told
    ]


def test_the_two_agree(people: list[Person], tmp_path: Path) -> None:
    async def by_utmp() -> list[tuple[str, dict[str, str]]]:
        init, file = Init(), Utmp(tmp_path / "utmp")
        async with opened(init, file.path):
            return await play(people, init, file.write, file.end)

    async def by_logind() -> list[tuple[str, dict[str, str]]]:
        with bus(tmp_path / "bus") as place:
            init, logind = Init(place.variables), StandInLogind()
            await logind.start(place.address)
            try:
                async with opened(init, tmp_path / "none") as source:
                    assert source._logind is not None
                    await init.wait(lambda: source._of_logind)
                    return await play(people, init, logind.open, logind.close)
            finally:
                await logind.stop()

    told = asyncio.run(by_utmp())
    assert told == asyncio.run(by_logind())
    assert [name for name, _ in told] == [
        USER_ADDED, OPENED, OPENED, USER_ADDED, OPENED, OPENED, USER_ADDED, OPENED,
        CLOSED, CLOSED, USER_REMOVED, CLOSED, CLOSED, USER_REMOVED, CLOSED, USER_REMOVED,
    ]  # fmt: skip
    assert told[2][1] == {
        "USER": "root", "UID": "0", "TYPE": "tty", "SERVICE": "sshd", "REMOTE": "1",
        "RHOST": "192.0.2.7", "TTY": "pts/0", "DISPLAY": "",
    }  # fmt: skip
    kinds = [variables["TYPE"] for name, variables in told if name == OPENED]
    assert kinds == ["tty", "tty", "tty", "x11", "wayland"]


def test_a_supervisor_dies_meanwhile(people: list[Person], tmp_path: Path) -> None:
    """Who was there before is no event; what happened while nobody looked is told once."""

    async def main() -> None:
        init, file = Init(), Utmp(tmp_path / "utmp")
        file.write(people[0])
        first = init.source(file.path)
        file.write(people[2])
        await init.wait(lambda: len(init.told) == 2)
        kept = os.dup(init.kept[KEPT])
        first.close()
        init.kept[KEPT] = kept
        file.end(people[0])
        file.write(people[1])
        async with opened(init, file.path):
            await init.wait(lambda: len(init.told) == 4)
        # Root was there all the time.
        assert init.names() == [USER_ADDED, OPENED, CLOSED, OPENED]
        assert [each["TTY"] for _, each in init.told[1:]] == ["pts/1", "tty1", "pts/0"]
        init.drop(KEPT)

    asyncio.run(main())


def test_a_killed_login_has_ended(people: list[Person], tmp_path: Path) -> None:
    """Its record stays, as nobody was there to write it; and a record of a dead one is none."""

    async def main() -> None:
        init, file = Init(), Utmp(tmp_path / "utmp")
        async with opened(init, file.path, names=(OPENED, CLOSED)):
            file.write(people[1])
            await init.wait(lambda: init.names() == [OPENED])
            os.kill(people[1].pid, signal.SIGKILL)
            await init.wait(lambda: init.names() == [OPENED, CLOSED])
            # A file that is replaced, and an unfinished record behind the last.
            file.path.rename(tmp_path / "old")
            file.write(people[2])
            file.append(b"\x07\0half a record")
            await init.wait(lambda: init.names() == [OPENED, CLOSED, OPENED])
            dead = Person(9, "root", 0, "tty9", pid=2**22 - 3)
            with suppress(ProcessLookupError):
                os.kill(dead.pid, 0)
                pytest.fail("that process should not be there")
            file.write(dead)
            file.end(people[2])
            await init.wait(lambda: init.names() == [OPENED, CLOSED, OPENED, CLOSED])
        assert not init.warnings

    asyncio.run(main())


def test_logind_comes_later_and_the_bus_restarts(people: list[Person], tmp_path: Path) -> None:
    """What utmp told is not told again; greeters are nobody; a session that is over is none."""

    async def main() -> None:
        file, logind = Utmp(tmp_path / "utmp"), StandInLogind()
        with bus(tmp_path / "bus") as place:
            init = Init(place.variables)
            async with opened(init, file.path, names=(OPENED, CLOSED)) as source:
                file.write(people[0])
                await init.wait(lambda: init.names() == [OPENED])
                logind.people["1"] = people[0]
                await logind.start(place.address)
                await init.wait(lambda: source._of_logind)
                logind.open(Person(7, "gdm", 120, "tty7"))
                vanishing = people[3]
                logind.open(vanishing)
                logind.close(vanishing)
                logind.open(people[1])
                await init.wait(lambda: len(init.told) >= 2)
                # The bus goes and comes; meanwhile one has left, and one has come.
                place.kill()
                with suppress(Exception):
                    await logind.stop()
                await init.wait(lambda: any("has ended" in text for text in init.warnings))
                del logind.people["1"]
                logind.people["3"] = people[2]
                place.start()
                await logind.start(place.address)
                await init.wait(lambda: init.names().count(CLOSED) >= 1 and len(init.told) >= 4)
                await logind.stop()
                # Without logind what utmp says counts again.
                await init.wait(lambda: not source._of_logind)
        told = [(name, each["TTY"]) for name, each in init.told if each["DISPLAY"] == ""]
        assert told[:4] == [
            (OPENED, "tty1"),
            (OPENED, "pts/0"),
            (CLOSED, "tty1"),
            (OPENED, "pts/1"),
        ]
        assert "gdm" not in str(init.told)

    asyncio.run(main())
