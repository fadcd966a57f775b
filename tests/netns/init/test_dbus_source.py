"""The source of D-Bus signals on a real bus: rules, restarts, floods, sleep."""

from __future__ import annotations

import asyncio
import itertools
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from dbus_fast import Message
from dbus_fast.aio import MessageBus
from dbus_fast.constants import MessageType

from hostlab.init.dbus.link import FIRST_PAUSE_S
from hostlab.init.sources import Surroundings
from hostlab.init.sources import dbus as source_module
from hostlab.init.sources.dbus import DBusSource
from hostlab.jobs.facts import Emit
from hostlab.spec.job import Match
from tests.netns.init.bus_site import Bus, bus, needs_bus

pytestmark = [pytest.mark.netns, needs_bus]

DEADLINE_S = 60.0
THING = "/org/example/Thing"
CHANGED = "org.example.Thing.Changed"


class Init:
    """What a source needs of an init, and what it has told."""

    def __init__(self, variables: dict[str, str], *, is_user: bool = False) -> None:
        self.told: list[dict[str, str]] = []
        self.warnings: list[str] = []
        self.variables = variables
        self.is_user = is_user
        self.changed = asyncio.Event()

    def surroundings(self) -> Surroundings:
        return Surroundings(
            self.tell,
            self.warn,
            lambda name, fd: None,
            lambda name: None,
            {},
            variables=lambda: self.variables,
            is_user=self.is_user,
        )

    def tell(self, emit: Emit) -> None:
        assert emit.name == "dbus"
        self.told.append(dict(emit.environment))
        self.changed.set()

    def warn(self, text: str) -> None:
        self.warnings.append(text)
        self.changed.set()

    async def wait(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def wait_told(self, count: int) -> None:
        await self.wait(lambda: len(self.told) >= count)


@asynccontextmanager
async def listening(init: Init, *texts: str) -> AsyncIterator[DBusSource]:
    source = DBusSource(init.surroundings())
    try:
        source.listen(matches(*texts))
        yield source
    finally:
        source.close()


def matches(*texts: str) -> frozenset[Match]:
    return frozenset(Match("dbus", tuple(text.split())) for text in texts)


async def established(source: DBusSource) -> None:
    """Until it has heard, too, that its rules are set."""
    async with asyncio.timeout(DEADLINE_S):
        while source._buses["system"]._link.bus is None:  # noqa: ASYNC110 (it tells nobody)
            await asyncio.sleep(0)


async def rules_set(place: Bus, count: int) -> list[str]:
    """The rules on the bus, once there are so many of them."""
    async with asyncio.timeout(DEADLINE_S):
        while len(found := await asyncio.to_thread(place.rules)) != count:
            pass
    return found


def test_a_signal_is_an_event_with_upstarts_variables(tmp_path: Path) -> None:
    async def main() -> None:
        with bus(tmp_path) as place:
            init = Init(place.variables)
            async with listening(init, "SIGNAL=Changed INTERFACE=org.example.Thing"):
                await rules_set(place, 1)
                arguments = ("string:two words", "int32:-3", "boolean:true", "double:1.5",
                             "array:string:a,b", "objpath:/a/b", "uint64:7", "byte:9")  # fmt: skip
                place.send(THING, CHANGED, *arguments)
                await init.wait_told(1)
            (told,) = init.told
            assert told.pop("SENDER").startswith(":1.")
            assert told == {
                "SIGNAL": "Changed",
                "BUS": "system",
                "INTERFACE": "org.example.Thing",
                "OBJPATH": THING,
                "ARG0": "two words",
                "ARG1": "-3",
                "ARG2": "TRUE",
                "ARG3": "1.500000",
                "ARG5": "/a/b",
                "ARG6": "7",
            }
            assert list(told)[:3] == ["SIGNAL", "BUS", "INTERFACE"]
            assert not init.warnings

    asyncio.run(main())


def test_the_bus_chooses(tmp_path: Path) -> None:
    """What nobody asks for is not sent: the process stays asleep over it."""

    async def main() -> None:
        with bus(tmp_path) as place:
            init = Init(place.variables)
            texts = ("SIGNAL=Wanted ARG0=x", "OBJPATH=/org/example/* ARG1=/a/b ARG2=5")
            async with listening(init, *texts) as source:
                found = await rules_set(place, 2)
                assert sorted(found) == [
                    "type='signal',member='Wanted',arg0='x'",
                    "type='signal',path_namespace='/org/example',arg1path='/a/b'",
                ]
                seen: list[str] = []
                signals = source._buses["system"]
                await established(source)
                received = signals.received

                def spy(message: Message) -> bool | None:
                    seen.append(str(message.member))
                    return received(message)

                assert signals._link.bus is not None
                signals._link.bus._user_message_handlers[:] = [spy]
                await asyncio.to_thread(_send_many, place)
                await init.wait_told(1)
                source.listen(matches(texts[0]))
                await rules_set(place, 1)
            assert set(seen) <= {"Wanted", "AddMatch", "RemoveMatch", ""} | {"None"}
            assert [told["SIGNAL"] for told in init.told] == ["Wanted"]

    def _send_many(place: Bus) -> None:
        for _ in range(20):
            place.send("/somewhere/else", "org.example.Other.Unwanted", "string:x")
        place.send("/somewhere/else", "org.example.Other.Wanted", "string:y")
        place.send("/somewhere/else", "org.example.Other.Wanted", "string:x")

    asyncio.run(main())


def test_a_bus_comes_later_and_again(tmp_path: Path) -> None:
    """In a directory that is not there yet; killed and replaced; the rules are set anew."""

    async def main() -> None:
        place = Bus(tmp_path / "made")
        place.socket = tmp_path / "a" / "b" / "bus"
        text = place.configuration.read_text()
        place.configuration.write_text(text.replace(f"{tmp_path}/made/bus", str(place.socket)))
        init = Init(place.variables)
        try:
            async with listening(init, "SIGNAL=Changed"):
                for life in range(3):
                    place.socket.parent.mkdir(parents=True, exist_ok=True)
                    place.start()
                    await rules_set(place, 1)
                    place.send(THING, CHANGED, f"int32:{life}")
                    await init.wait_told(life + 1)
                    place.kill()
                    await init.wait(lambda expected=life + 1: len(init.warnings) == expected)  # type: ignore[misc]  # mypy infers no type of a lambda's default
        finally:
            if place.process is not None:
                place.kill()
        assert [told["ARG0"] for told in init.told] == ["0", "1", "2"]
        assert set(init.warnings) == {"the system bus: the connection has ended"}

    asyncio.run(main())


def test_a_user_hears_both_buses(tmp_path: Path) -> None:
    """As with Upstart's two bridges in a session; and one that is named by its address."""

    async def main() -> None:
        with (
            bus(tmp_path / "s") as system,
            bus(tmp_path / "u") as own,
            bus(tmp_path / "x") as third,
        ):
            init = Init(system.variables, is_user=True)
            texts = ("SIGNAL=Changed", f"SIGNAL=Changed BUS={third.address}")
            async with listening(init, *texts, "SIGNAL=Changed BUS=nowhere") as source:
                await rules_set(system, 1)
                await rules_set(third, 1)
                # The address of the session's bus comes when there is one.
                init.variables["DBUS_SESSION_BUS_ADDRESS"] = own.address
                source.listen(matches(*texts))
                await rules_set(own, 1)
                for place in (system, own, third):
                    place.send(THING, CHANGED, to="")
                await init.wait_told(3)
                # A session that has got another bus.
                init.variables["DBUS_SESSION_BUS_ADDRESS"] = third.address
                source.listen(matches(*texts))
                await rules_set(own, 0)
                await rules_set(third, 2)
            assert {told["BUS"] for told in init.told} == {"system", "session", third.address}
            (wrong,) = [text for text in init.warnings if "nowhere" in text]
            assert wrong == (
                "dbus SIGNAL=Changed BUS=nowhere: BUS=nowhere: `nowhere` is no bus; it never comes"
            )

    asyncio.run(main())


def test_a_sender_may_be_named_by_its_well_known_name(tmp_path: Path) -> None:
    async def main() -> None:
        with bus(tmp_path) as place:
            init = Init(place.variables)
            async with listening(init, "SIGNAL=Changed SENDER=org.example.Thing"):
                await rules_set(place, 2)
                for _ in range(2):
                    # One owner after the other.
                    owner = await MessageBus(bus_address=place.address).connect()
                    await owner.send(Message.new_signal(THING, "org.example.Thing", "Changed"))
                    await owner.request_name("org.example.Thing")
                    await owner.send(Message.new_signal(THING, "org.example.Thing", "Changed"))
                    owner.disconnect()
                    await owner.wait_for_disconnect()  # type: ignore[no-untyped-call]  # dbus-fast does not type it
                await init.wait_told(2)
                # The bus's own signals are heard when a job asks for them.
            assert [told["SENDER"] for told in init.told] == ["org.example.Thing"] * 2

    asyncio.run(main())


def test_the_bus_itself_is_heard_when_asked_for(tmp_path: Path) -> None:
    async def main() -> None:
        with bus(tmp_path) as place:
            init = Init(place.variables)
            text = "SIGNAL=NameOwnerChanged SENDER=org.freedesktop.DBus ARG0=org.example.* ARG1="
            async with listening(init, text):
                (rule,) = await rules_set(place, 1)
                assert "sender='org.freedesktop.DBus'" in rule
                owner = await MessageBus(bus_address=place.address).connect()
                await owner.request_name("org.example.Thing")
                await init.wait_told(1)
                owner.disconnect()
                await owner.wait_for_disconnect()  # type: ignore[no-untyped-call]  # dbus-fast does not type it
            assert init.told[0]["ARG0"] == "org.example.Thing"
            assert "SIGNAL=NameAcquired" not in str(init.told)

    asyncio.run(main())


FLOOD = """
import asyncio, sys
from hostlab.init.dbus.link import Message, connect

async def main():
    bus = await connect(sys.argv[1])
    def tell(signature, body):
        return bus.send(Message.new_signal("/a", "org.example.Thing", "Changed", signature, body))
    for number in range(int(sys.argv[2])):
        tell("i", [number])
    tell("s", ["x" * 70_000])
    await tell("s", ["end"])
    bus.disconnect()
    await bus.wait_for_disconnect()

asyncio.run(main())
"""


def test_a_flood_is_told_or_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 10_000
    monkeypatch.setattr(source_module, "MAX_QUEUED", 50)

    def lost(init: Init) -> int:
        return sum(int(text.split()[3]) for text in init.warnings if "too fast" in text)

    async def main() -> None:
        with bus(tmp_path) as place:
            init = Init(place.variables)
            async with listening(init, "SIGNAL=Changed"):
                await rules_set(place, 1)
                words = ("-c", FLOOD, place.address, str(count))
                # Nothing is read meanwhile: however slow the sender is, there is too much then.
                subprocess.run([sys.executable, *words], check=True, timeout=DEADLINE_S)  # noqa: ASYNC221
                await init.wait(lambda: len(init.told) + lost(init) >= count + 1)
            assert lost(init) > 0
            assert len(init.told) + lost(init) == count + 1
            assert any("a signal Changed of 70" in text for text in init.warnings)
            numbers = [int(told["ARG0"]) for told in init.told if told["ARG0"] != "end"]
            assert numbers == sorted(numbers)

    asyncio.run(main())


def test_what_is_no_message_ends_a_connection_only(tmp_path: Path) -> None:
    """And is no reason to connect again at once, without end: the pauses grow."""

    async def main() -> None:
        path = tmp_path / "bus"
        loop = asyncio.get_running_loop()
        came: list[float] = []
        hello = Message(
            message_type=MessageType.METHOD_RETURN, reply_serial=1, signature="s", body=[":1.1"]
        )
        hello.serial = 1

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            came.append(loop.time())
            if len(came) > 1:
                await reader.readline()
                writer.write(b"OK 1234deadbeef\r\n")
                await reader.readline()
                writer.write(bytes(hello._marshall(False)) if len(came) > 2 else b"")
                writer.write(b"Z" * 200)
                await reader.read()
            writer.close()
            init.changed.set()

        async with await asyncio.start_unix_server(serve, path):
            init = Init({})
            async with listening(init, f"SIGNAL=Changed BUS=unix:path={path}"):
                await init.wait(lambda: len(came) >= 4)
        gaps = [after - before for before, after in itertools.pairwise(came)]
        assert all(gap >= FIRST_PAUSE_S * 0.9 for gap in gaps), gaps
        assert any("no message" in text for text in init.warnings), init.warnings
        assert not init.told

    asyncio.run(main())


def test_one_that_gives_no_sign_is_found_by_a_late_look(tmp_path: Path) -> None:
    """It has bound its socket, and listens later: of that the kernel tells nobody."""

    async def main() -> None:
        path = tmp_path / "bus"
        came = asyncio.Event()
        with socket.socket(socket.AF_UNIX) as sock:
            init = Init({})
            async with listening(init, f"SIGNAL=Changed BUS=unix:path={path}"):
                sock.bind(str(path))
                await asyncio.sleep(0)
                sock.listen()
                asyncio.get_running_loop().add_reader(sock, came.set)
                async with asyncio.timeout(DEADLINE_S):
                    await came.wait()
                asyncio.get_running_loop().remove_reader(sock)

    asyncio.run(main())


def test_too_many_rules_become_fewer_and_wider(tmp_path: Path) -> None:
    async def main() -> None:
        with bus(tmp_path) as place:
            init = Init(place.variables)
            texts = [f"SIGNAL=Changed ARG0=word{n}" for n in range(300)]
            async with listening(init, *texts):
                (rule,) = await rules_set(place, 1)
            assert rule == "type='signal',member='Changed'"

    asyncio.run(main())


def test_a_connection_sleeps(tmp_path: Path) -> None:
    """Neither while the bus is idle nor while others use it: what wakes is a wanted signal."""

    async def main() -> None:
        with bus(tmp_path) as place:
            init = Init(place.variables)
            async with listening(init, "SIGNAL=Changed") as source:
                await rules_set(place, 1)
                await established(source)
                loop = asyncio.get_running_loop()
                assert all(handle.cancelled() for handle in loop._scheduled)  # type: ignore[attr-defined]  # asyncio's own
                wakings = 0
                received = loop._selector.select  # type: ignore[attr-defined]  # asyncio's own

                def select(timeout: float | None = None) -> object:
                    nonlocal wakings
                    wakings += 1
                    return received(timeout)

                loop._selector.select = select  # type: ignore[attr-defined]  # asyncio's own
                await asyncio.to_thread(others)
                await init.wait_told(1)
            # The thread's end, and the signal: to come, to be told, to wake the test.
            assert wakings <= 8

    def others() -> None:
        with_bus = Bus.send
        for _ in range(30):
            with_bus(place_of[0], THING, "org.example.Thing.Unwanted")
        with_bus(place_of[0], THING, CHANGED)

    place_of: list[Bus] = [Bus(tmp_path)]
    asyncio.run(main())
