"""What comes from UDisks2 while it is being asked what there is."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from hostlab.errors import Failed
from hostlab.init.dbus.library import Message, MessageType
from hostlab.init.devices import udisks2_client
from hostlab.init.devices.udisks2 import NAME, ROOT
from hostlab.init.devices.udisks2_client import OBJECT_MANAGER, RULES, Udisks2Client

pytestmark = pytest.mark.unit

BUS: Any = SimpleNamespace()
DRIVE, DISK = f"{ROOT}/drives/d", f"{ROOT}/block_devices/sda"
STICK: dict[str, dict[str, dict[str, object]]] = {
    DRIVE: {f"{NAME}.Drive": {"Vendor": "V"}},
    DISK: {f"{NAME}.Block": {"Drive": DRIVE}, f"{NAME}.Filesystem": {"MountPoints": []}},
}


class Answers:
    """Answers for a bus, and does something else before each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.meanwhile: dict[int, Any] = {}
        """Number of a call -> what happens before it is answered."""
        self.objects: list[object] = []
        monkeypatch.setattr(udisks2_client, "call", self.call)

    async def call(self, _: object, member: str, *__: object, **___: object) -> list[object]:
        self.asked.append(member)
        self.meanwhile.get(len(self.asked), lambda: None)()
        await asyncio.sleep(0)
        return [self.objects.pop(0)] if member == "GetManagedObjects" else []


def added(path: str) -> Message:
    return Message(
        message_type=MessageType.SIGNAL,
        path=ROOT,
        interface=OBJECT_MANAGER,
        member="InterfacesAdded",
        signature="oa{sa{sv}}",
        body=[path, STICK[path]],
    )


def owner_changed() -> Message:
    return Message(
        message_type=MessageType.SIGNAL,
        path="/org/freedesktop/DBus",
        interface="org.freedesktop.DBus",
        member="NameOwnerChanged",
        signature="sss",
        body=[NAME, "", ":1.1"],
    )


def pictures(answers: Answers) -> list[list[str]]:
    """What there is each time that something is told to have changed."""
    found: list[list[str]] = []

    async def main() -> None:
        client = Udisks2Client(
            lambda: found.append([key.partition(" ")[0] for key in client.storage.picture()]),
            lambda text: pytest.fail(text),
        )
        meanwhile = answers.meanwhile
        answers.meanwhile = {at: lambda m=m: client.received(m) for at, m in meanwhile.items()}
        await client.established(BUS)
        await settled(client)

    asyncio.run(main())
    return found


def test_of_half_a_stick_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The drive was told of before the rules were set, the disk after the first one."""
    answers = Answers(monkeypatch)
    answers.objects = [STICK]
    answers.meanwhile = {2: added(DISK)}
    assert pictures(answers) == [["drive", "filesystem"]]


@pytest.mark.parametrize("at", range(1, len(RULES) + 3))
def test_an_owner_that_comes_while_it_is_asked_is_asked(
    monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Whichever answer comes last, it is of the new owner, and nothing after it is lost."""
    answers = Answers(monkeypatch)
    answers.objects = [{}, STICK] if at == len(RULES) + 2 else [STICK, STICK]
    answers.meanwhile = {at: owner_changed()}
    assert pictures(answers)[-1] == ["drive", "filesystem"]


def test_an_owner_that_leaves_while_it_is_asked_takes_nothing_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between two owners nothing has gone."""
    answers = Answers(monkeypatch)
    found: list[list[str]] = []

    def leaves() -> None:
        raise Failed("org.freedesktop.DBus.Error.NoReply", "it has left the bus")

    async def main() -> None:
        client = Udisks2Client(
            lambda: found.append(list(client.storage.picture())), lambda text: pytest.fail(text)
        )
        answers.objects = [STICK]
        await client.established(BUS)
        answers.meanwhile = {len(answers.asked) + 2: leaves}
        client.received(owner_changed())
        await settled(client)
        assert answers.asked[-1] == "GetManagedObjects"
        # What it has told before is not lost by that.
        client.received(added(DISK))

    asyncio.run(main())
    assert found == [found[0]] * 2


async def settled(client: Udisks2Client) -> None:
    while client._asking is not None:
        await asyncio.gather(client._asking, return_exceptions=True)


def test_without_an_owner_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers(monkeypatch)

    def nobody() -> None:
        raise Failed("org.freedesktop.DBus.Error.NameHasNoOwner", "nobody")

    async def main() -> None:
        client = Udisks2Client(lambda: pytest.fail("told"), lambda text: pytest.fail(text))
        answers.meanwhile = {len(RULES) + 1: nobody}
        await client.established(BUS)
        assert not client.is_there

    asyncio.run(main())
