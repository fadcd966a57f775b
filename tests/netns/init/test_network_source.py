"""The source of network events on the kernel's own rtnetlink, in namespaces of its own."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import struct
import time
import traceback
from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

from hostlab.init.sources.network import NetworkSource
from hostlab.init.sources.network_state import EVENTS
from hostlab.jobs.boot import Emission
from hostlab.linux import rtnetlink as rt
from hostlab.linux.clone import CLONE_NEWNET, CLONE_NEWUSER, clone3
from hostlab.linux.netlink import NLM_F_CREATE, NLM_F_REPLACE, Netlink, Request
from hostlab.linux.rtmonitor import Monitor
from hostlab.spec.job import Match
from tests.netns.init.log_site import until
from tests.netns.init.source_site import Init, finish

pytestmark = pytest.mark.netns

IFF_RUNNING = 0x40
MAC = "02:00:00:00:00:"
ALL = frozenset(Match(event) for event in EVENTS)
LAST = Match("net-address-added")


class Network(Init):
    """An init in a network namespace, and what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.netlink = Netlink()
        self.source: NetworkSource | None = None
        self.boots = False
        self.emissions: tuple[Emission, ...] = ()

    def open(self, operands: frozenset[Match] = ALL) -> NetworkSource:
        surroundings = replace(
            self.surroundings(), boots=lambda: self.boots, boot_events=lambda: self.emissions
        )
        self.source = NetworkSource(surroundings)
        self.source.listen(operands)
        return self.source

    def die(self) -> None:
        """As a killed supervisor: what is kept stays."""
        assert self.source is not None
        kept = {name: os.dup(fd) for name, fd in self.kept.items()}
        self.source.close()
        self.kept.update(kept)

    def request(self, *requests: Request) -> None:
        self.netlink.request(requests)

    async def short(self, *names: str) -> list[tuple[str, ...]]:
        """What was told until now: each event without `net-`, and these variables of it."""
        await self.until_now()
        found = []
        for emit in self.told:
            values = dict(emit.environment)
            shown = tuple(values[name] for name in names if name in values)
            # Link-local addresses come by themselves, some time after their link.
            is_ours = values.get("FAMILY") != "inet6"
            if is_ours and values.get("ADDRESS") != "127.0.0.250/32":
                found.append((emit.name.removeprefix("net-"), *shown))
        self.told.clear()
        return found

    async def changed_again(self) -> None:
        self.changed.clear()
        await self.changed.wait()

    async def wire(self) -> None:
        """A cable with both of its ends up, and whatever the kernel does of itself then done."""
        self.request(veth("v", 10, up=True), rt.link_set(11, up=True))
        await until(lambda: has_carrier(self, 10) and has_carrier(self, 11), "carriers")

    async def until_now(self) -> None:
        """An address that is made behind everything is told behind everything."""
        self.request(rt.address_add(1, "127.0.0.250/32"))
        self.request(rt.address_delete(1, "127.0.0.250/32"))
        async with asyncio.timeout(100):
            while not any(
                emit.name == "net-address-removed"
                and ("ADDRESS", "127.0.0.250/32") in emit.environment
                for emit in self.told
            ):
                await self.changed_again()


def run(work: Callable[[Network], Awaitable[None]]) -> None:
    """In a new network namespace, in a process of its own."""

    async def main() -> None:
        init = Network()
        init.request(rt.link_set(1, up=True))
        async with asyncio.timeout(100):
            await work(init)
        finish(init)
        init.netlink.close()

    reader, writer = os.pipe()
    pid, pidfd = clone3(CLONE_NEWUSER | CLONE_NEWNET)
    if pid == 0:
        try:
            asyncio.run(main())
        except BaseException:
            os.write(writer, traceback.format_exc()[-4000:].encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as told:
        text = told.read()
    os.close(pidfd)
    os.waitpid(pid, 0)
    assert text == "", text


def veth(name: str, index: int, *, up: bool = False) -> Request:
    end = rt.VethEnd(name, index, mac=f"{MAC}{index % 256:02x}", up=up)
    return rt.veth_add(end, rt.VethEnd(f"{name}p", index + 1), mtu=1500)


def test_a_link_from_its_coming_to_its_end() -> None:
    async def work(init: Network) -> None:
        source = init.open()
        init.request(veth("v", 10))
        assert sorted(await init.short("INTERFACE", "IFINDEX", "KIND", "MAC"))[1] == (
            "device-added", "vp", "11", "veth", init_mac(init, 11),
        )  # fmt: skip
        init.request(rt.link_set(10, up=True))
        assert await init.short("IFACE", "ADDRFAM", "METHOD") == [
            ("device-up", "v", "inet", "static")
        ]
        init.request(rt.link_set(11, up=True))
        # The kernel tells of carriers when it comes to it, behind what is asked for meanwhile.
        while sum(emit.name == "net-carrier-up" for emit in init.told) < 2:
            await init.changed_again()
        found = await init.short("INTERFACE", "IFACE")
        rows = [row for row in found if row[0] in ("carrier-up", "device-up")]
        assert sorted(rows) == [("carrier-up", "v"), ("carrier-up", "vp"), ("device-up", "vp")]
        init.request(rt.link_delete(10))
        found = [row for row in await init.short("INTERFACE", "IFACE") if row[-1] == "v"]
        assert [row[0] for row in found if "device" in row[0]] == ["device-down", "device-removed"]
        assert source.lost == 0
        source.close()

    run(work)


def has_carrier(init: Network, index: int) -> bool:
    """Whether a link is running, as its flags say: the kernel has told of that then."""
    flags = next(link.flags for link in rt.links(init.netlink) if link.index == index)
    return bool(flags & IFF_RUNNING)


def init_mac(init: Network, index: int) -> str:
    return next(link.mac for link in rt.links(init.netlink) if link.index == index)


def test_a_link_that_is_called_otherwise() -> None:
    async def work(init: Network) -> None:
        init.request(veth("old", 10, up=True))
        source = init.open()
        renamed = rt._IFINFO.pack(0, 0, 10, 0, 0) + rt._name("new")
        init.request(
            rt.link_set(10, up=False),
            Request(rt.RTM_NEWLINK, 0, renamed, "rename"),
            rt.link_set(10, up=True),
        )
        assert await init.short("INTERFACE", "IFACE", "RENAMED_TO", "RENAMED_FROM") == [
            ("device-down", "old"),
            ("device-removed", "old", "new"),
            ("device-added", "new", "old"),
            ("device-up", "new"),
        ]
        source.close()

    run(work)


def test_addresses_routes_and_neighbours() -> None:
    async def work(init: Network) -> None:
        await init.wire()
        source = init.open()
        init.request(rt.address_add(10, "10.1.0.1/24"))
        found = await init.short("INTERFACE", "ADDRESS", "FAMILY", "SCOPE", "TO", "PROTOCOL")
        assert ("address-added", "v", "10.1.0.1/24", "inet", "global") in found
        assert ("route-added", "v", "inet", "10.1.0.0/24", "kernel") in found
        init.request(
            rt.route_add("0.0.0.0/0", via="10.1.0.9"),
            rt.neighbour_add(10, bytes((10, 1, 0, 9)), rt.mac_bytes(f"{MAC}09")),
        )
        assert await init.short("TO", "VIA", "INTERFACE", "TABLE", "ADDRESS", "MAC") == [
            ("route-added", "default", "10.1.0.9", "v", "main"),
            ("neighbour-added", "v", "10.1.0.9", f"{MAC}09"),
        ]
        init.request(rt.neighbour_add(10, bytes((10, 1, 0, 9)), rt.mac_bytes(f"{MAC}0a")))
        other = rt.route_add("0.0.0.0/0", via="10.1.0.8")
        init.request(other._replace(flags=NLM_F_CREATE | NLM_F_REPLACE))
        assert await init.short("TO", "VIA", "MAC", "MAC_BEFORE") == [
            ("neighbour-changed", f"{MAC}0a", f"{MAC}09"),
            ("route-removed", "default", "10.1.0.9"),
            ("route-added", "default", "10.1.0.8"),
        ]
        # The kernel says nothing of IPv4 routes that go with their link.
        init.request(rt.link_set(10, up=False))
        found = await init.short("TO")
        assert ("route-removed", "default") in found
        assert ("route-removed", "10.1.0.0/24") in found
        source.close()

    run(work)


def test_an_address_is_told_when_it_can_be_used() -> None:
    async def work(init: Network) -> None:
        await init.wire()
        source = init.open(frozenset({LAST, Match("net-address-removed")}))
        before = time.monotonic()
        request = rt.address_add(10, "2001:db8::1/64")
        # Without its last attribute, which says that nobody is to be asked about it.
        init.request(request._replace(body=request.body[:-8]))
        while not any(("ADDRESS", "2001:db8::1/64") in emit.environment for emit in init.told):
            await init.changed_again()
        # Duplicate address detection takes a second (RFC 4862, RetransTimer).
        assert time.monotonic() - before > 0.5
        source.close()

    run(work)


def test_what_is_there_when_init_comes_up() -> None:
    """The boot tells of the interfaces of the description; the rest is told here."""

    async def work(init: Network) -> None:
        init.request(veth("eth0", 10, up=True), veth("extra", 20, up=True))
        init.boots = True
        init.emissions = (Emission(event="net-device-up", environment=(("IFACE", "eth0"),)),)
        source = init.open(frozenset({Match("net-device-up"), Match("net-device-added"), LAST}))
        told = [(emit.name, dict(emit.environment)) for emit in init.told]
        assert [values["IFACE"] for name, values in told if name == "net-device-up"] == [
            "lo", "extra",
        ]  # fmt: skip
        added = {values["INTERFACE"] for name, values in told if name == "net-device-added"}
        assert added == {"lo", "eth0", "eth0p", "extra", "extrap"}
        source.close()
        init.told.clear()
        init.boots = False
        init.open().close()
        assert init.told == [], "a job that comes later has missed it"

    run(work)


def test_what_happened_while_there_was_no_supervisor() -> None:
    async def work(init: Network) -> None:
        init.request(veth("gone", 10, up=True), veth("same", 20, up=True))
        init.open()
        init.request(rt.address_add(20, "10.2.0.1/24"))
        await init.short()
        init.die()
        init.request(rt.link_delete(10), rt.address_add(20, "10.3.0.1/24"), veth("new", 30))
        init.boots = True
        source = init.open()
        found = [(emit.name, dict(emit.environment)) for emit in init.told]
        init.told.clear()
        names = {(name, v.get("ADDRESS") or v.get("INTERFACE") or v["IFACE"]) for name, v in found}
        assert {
            ("net-device-down", "gone"), ("net-device-removed", "gone"),
            ("net-device-removed", "gonep"), ("net-address-added", "10.3.0.1/24"),
            ("net-device-added", "new"), ("net-device-added", "newp"),
        } == {each for each in names if each[0][4:9] in ("devic", "addre")}  # fmt: skip
        source.close()

    run(work)


def test_a_hundred_links_at_once() -> None:
    async def work(init: Network) -> None:
        source = init.open()
        init.request(*(veth(f"v{number}", 100 + 2 * number) for number in range(50)))
        added = [row for row in await init.short("INTERFACE") if row[0] == "device-added"]
        assert len(added) == len(set(added)) == 100
        source.close()

    run(work)


def test_what_the_kernel_had_to_drop_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Monitor.__init__

    def small(self: Monitor, groups: list[int]) -> None:
        made(self, groups)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    monkeypatch.setattr(Monitor, "__init__", small)

    async def work(init: Network) -> None:
        source = init.open()
        init.request(veth("v", 10))
        init.request(*(rt.address_add(1, f"127.1.{n}.1/32") for n in range(200)))
        init.request(*(rt.address_delete(1, f"127.1.{n}.1/32") for n in range(100)))
        init.request(rt.link_set(10, up=True))
        while source.lost == 0 or not any(e.name == "net-device-up" for e in init.told):
            await init.changed_again()
        there = {values["ADDRESS"] for name, values in events(init) if name.endswith("s-added")}
        gone = {values["ADDRESS"] for name, values in events(init) if name.endswith("s-removed")}
        left = there - gone - {"127.0.0.1/8", "::1/128"}
        assert {each for each in left if each.startswith("127.1.")} == {
            f"127.1.{n}.1/32" for n in range(100, 200)
        }
        assert init.warnings == []
        source.close()

    run(work)


def events(init: Network) -> list[tuple[str, dict[str, str]]]:
    return [(emit.name, dict(emit.environment)) for emit in init.told]


def test_others_may_not_tell() -> None:
    """Any process of the namespace may send to the socket."""

    async def work(init: Network) -> None:
        source = init.open()
        assert source._monitor is not None
        to = source._monitor.socket.getsockname()
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as liar:
            gone = rt._IFINFO.pack(0, 0, 1, 0, 0) + rt._name("lo")
            liar.sendto(struct.pack("=IHHII", 16 + len(gone), 17, 0, 0, 0) + gone, to)
        assert await init.short() == []
        assert init.warnings == []
        source.close()

    run(work)


def test_only_what_is_waited_for_is_followed_and_it_sleeps() -> None:
    async def work(init: Network) -> None:
        await init.wire()
        source = init.open(frozenset({Match("net-device-added")}))
        # Whoever asks the kernel may have to wait for its lock; that is no wake-up of the source's.
        init.request(*(rt.address_add(1, f"127.1.{n}.1/32") for n in range(50)))
        before = resource.getrusage(resource.RUSAGE_THREAD)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.Event().wait()
        after = resource.getrusage(resource.RUSAGE_THREAD)
        assert after.ru_nvcsw - before.ru_nvcsw <= 8
        assert init.told == []
        assert set(source._state.tables) == {"links"}
        source.close()

    run(work)
