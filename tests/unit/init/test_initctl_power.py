"""telinit, runlevel, shutdown, reboot, halt, poweroff."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from hostlab.init.initctl.programs import Initctl
from hostlab.init.initctl.surroundings import Answer, Command, Down
from tests.initctl_site import TURNS, Caller, Site

pytestmark = pytest.mark.unit


@pytest.fixture
def call() -> Caller:
    return Caller(Site())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("0",), (Down.HALT, (), False)),
        (("6",), (Down.REBOOT, (), False)),
        (("1",), ("runlevel", "1", ())),
        (("3",), ("runlevel", "3", ())),
        (("s",), ("runlevel", "S", ())),
        (("S",), ("runlevel", "S", ())),
        (("q",), ("reload",)),
        (("U",), ("reexec",)),
        (("-t", "5", "-e", "A=1", "-eB=x=y", "2"), ("runlevel", "2", (("A", "1"), ("B", "x=y")))),
    ],
)
def test_telinit(call: Caller, words: tuple[str, ...], expected: tuple[object, ...]) -> None:
    assert call("telinit", *words) == Answer()
    assert call.site.done == [expected]


@pytest.mark.parametrize("level", ["7", "22", "x", ""])
def test_levels_that_there_are_not(call: Caller, level: str) -> None:
    advice = "Try `telinit --help' for more information.\n"
    assert call("telinit", level) == Answer(1, err=f"telinit: illegal runlevel: {level}\n{advice}")
    assert call("telinit") == Answer(1, err=f"telinit: missing runlevel\n{advice}")
    assert call.site.done == []


def test_runlevel(call: Caller) -> None:
    assert call("runlevel") == Answer(0, "N 2\n")
    call.site.runlevel = ("2", "S")
    assert call("runlevel", "/var/run/utmp") == Answer(0, "2 S\n")
    assert call("runlevel", RUNLEVEL="6", PREVLEVEL="5") == Answer(0, "5 6\n")
    assert call("runlevel", RUNLEVEL="6") == Answer(0, "N 6\n")
    call.site.runlevel = None
    assert call("runlevel") == Answer(1, "unknown\n")
    assert call("runlevel", "--quiet") == Answer(1)


@pytest.mark.parametrize(
    ("words", "name", "expected"),
    [
        (("-h",), "halt", (Down.HALT, (), False)),
        (("-H",), "halt", (Down.HALT, (("INIT_HALT", "HALT"),), False)),
        (("-P",), "power off", (Down.POWEROFF, (("INIT_HALT", "POWEROFF"),), False)),
        (("-hP",), "power off", (Down.POWEROFF, (("INIT_HALT", "POWEROFF"),), False)),
        (("-r",), "reboot", (Down.REBOOT, (), False)),
        (("-Pr",), "reboot", (Down.REBOOT, (), False)),
        (("-rf", "-t", "3"), "reboot", (Down.REBOOT, (), False)),
        ((), "maintenance", ("runlevel", "1", ())),
    ],
)
def test_shutdown_now(
    call: Caller, words: tuple[str, ...], name: str, expected: tuple[object, ...]
) -> None:
    assert call("shutdown", *words, "now", "so", "long") == Answer()
    warning = f"\rThe system is going down for {name} NOW!\r\nso long \r\n"
    assert call.site.done == [("broadcast", warning), expected]


def test_only_a_warning(call: Caller) -> None:
    assert call("shutdown", "-k", "-r", "+5") == Answer()
    text = "\rThe system is going down for reboot in 5 minutes!\r\n"
    assert call.site.done == [("broadcast", text)]


@pytest.mark.parametrize(
    ("when", "text"),
    [
        ("soon", "illegal time value"),
        ("-5", "invalid option: -5"),
        ("24:00", "illegal hour value"),
        ("x:1", "illegal hour value"),
        ("12:60", "illegal minute value"),
        ("12:", "illegal minute value"),
        ("9" * 5000, "illegal time value"),
        ("9" * 5000 + ":1", "illegal hour value"),
    ],
)
def test_times_that_are_none(call: Caller, when: str, text: str) -> None:
    answer = call("shutdown", "-h", when)
    assert answer.status == 1
    assert answer.err == f"shutdown: {text}\nTry `shutdown --help' for more information.\n"
    assert call.site.done == []


def test_no_time(call: Caller) -> None:
    assert call("shutdown", "-h").err.startswith("shutdown: time expected\n")


def test_cancel_without_a_shutdown(call: Caller) -> None:
    answer = call("shutdown", "-c")
    assert answer == Answer(1, err="shutdown: Cannot find pid of running shutdown\n")


class Later:
    """A shutdown in minutes, with a clock in the test's hand."""

    def __init__(self) -> None:
        self.site = Site()
        self.now = time.time() + 1
        self.gone: set[str] = set()
        self.initctl = Initctl(
            self.site, is_waiting=lambda token: token not in self.gone, clock=self.clock
        )
        self.call = Caller(self.site, self.initctl)
        self.skips = 0

    def clock(self) -> float:
        """Every look at the clock is a minute later: nobody waits in this test."""
        self.skips += 1
        return self.now + 60 * self.skips

    async def run(self, *words: str) -> Answer:
        return await self.initctl.run(self.call.command(*words))

    async def planned(self, *words: str) -> tuple[Command, asyncio.Task[Answer]]:
        """A shutdown that waits, and will for as long as the clock stands still."""
        self.skips = -10_000
        command = self.call.command(*words)
        task = asyncio.ensure_future(self.initctl.run(command))
        for _ in range(TURNS):
            if self.site.done:
                break
            await asyncio.sleep(0)
        assert not task.done()
        return command, task


def on(later: Later, test: Callable[[Later], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(later), 100))


def test_it_warns_and_goes_when_its_time_has_come() -> None:
    async def test(later: Later) -> None:
        assert await later.run("shutdown", "-r", "+2") == Answer()
        assert later.site.done == [
            ("broadcast", "\rThe system is going down for reboot in 2 minutes!\r\n"),
            ("broadcast", "\rThe system is going down for reboot in 1 minute!\r\n"),
            ("broadcast", "\rThe system is going down for reboot NOW!\r\n"),
            (Down.REBOOT, (), False),
        ]

    on(Later(), test)


def test_it_warns_ever_more_often() -> None:
    async def test(later: Later) -> None:
        await later.run("shutdown", "+200")
        texts = [str(each[1]) for each in later.site.done if each[0] == "broadcast"]
        told = [int(text.split(" in ")[1].split()[0]) for text in texts[:-1]]
        assert told == [200, 180, 150, 120, 90, 60, 45, 30, 15, *range(9, 0, -1)]

    on(Later(), test)


def test_it_can_be_cancelled() -> None:
    async def test(later: Later) -> None:
        _, task = await later.planned("shutdown", "-h", "-g", "+5", "bye")
        assert await later.run("shutdown", "-c", "no") == Answer()
        assert await task == Answer(0, err="shutdown: Shutdown cancelled\n")
        assert later.site.done[1:] == [("broadcast", "no \r\n")]
        assert (await later.run("shutdown", "-c")).status == 1

    on(Later(), test)


def test_there_is_one_at_a_time() -> None:
    async def test(later: Later) -> None:
        command, task = await later.planned("shutdown", "-h", "+5")
        text = "shutdown: Another shutdown is already running\n"
        assert await later.run("shutdown", "-r", "now") == Answer(1, err=text)
        later.gone.add(command.token)
        assert await later.run("shutdown", "-r", "now") == Answer()
        task.cancel()

    on(Later(), test)


def test_it_does_not_go_when_its_caller_has_gone() -> None:
    async def test(later: Later) -> None:
        later.gone.add("test/1")
        assert await later.run("shutdown", "-h", "+1") == Answer()
        assert [each[0] for each in later.site.done] == ["broadcast"]

    on(Later(), test)


def test_the_time_counts_from_when_it_was_asked_for() -> None:
    """A supervisor that takes over does not begin anew."""

    async def test(later: Later) -> None:
        asked = time.time() - 3600
        command = Command("shutdown", ("-h", "+60"), "old", asked, {})
        later.skips = 0
        later.now = time.time() - 60
        assert await later.initctl.run(command) == Answer()
        assert later.site.done[-1] == (Down.HALT, (), False)

    on(Later(), test)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("reboot",), (Down.REBOOT, (), False)),
        (("halt",), (Down.HALT, (("INIT_HALT", "HALT"),), False)),
        (("halt", "-p"), (Down.POWEROFF, (("INIT_HALT", "POWEROFF"),), False)),
        (("poweroff",), (Down.POWEROFF, (("INIT_HALT", "POWEROFF"),), False)),
        (("poweroff", "-f"), (Down.POWEROFF, (), True)),
        (("reboot", "-d", "-f", "-i"), (Down.REBOOT, (), True)),
    ],
)
def test_reboot(call: Caller, words: tuple[str, ...], expected: tuple[object, ...]) -> None:
    assert call(*words) == Answer()
    assert call.site.done == [expected]


def test_reboot_on_the_way_down_is_forced(call: Caller) -> None:
    call.site.runlevel = ("2", "6")
    call("reboot")
    assert call.site.done == [(Down.REBOOT, (), True)]


def test_only_the_record(call: Caller) -> None:
    assert call("reboot", "-w") == Answer()
    assert call.site.done == []


def test_help(call: Caller) -> None:
    assert call("telinit", "--help").out.startswith("Usage: telinit [OPTION]... RUNLEVEL\n")
    assert call("shutdown", "--help").out.startswith("Usage: shutdown [OPTION]... TIME [MESSAGE]\n")
