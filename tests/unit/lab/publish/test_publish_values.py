"""What the publisher is told, the order of a node's addresses, how descriptors are shared."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.lab.publish import Protocol, Published, Target
from hostlab.lab.publish.messages import Add, Nodes, Stat, decode_command, encode
from hostlab.lab.publish.places import Place
from hostlab.lab.publish.publisher import SPARE_DESCRIPTORS, Bounds
from hostlab.lab.publish.tcp import DESCRIPTORS

pytestmark = pytest.mark.unit

NO_FD = -1


def test_commands_survive_json() -> None:
    published = Published(node="dns", port=53, inner=5353, protocol=Protocol.UDP, address="::1")
    target = Target(name="web", addresses=("10.0.0.1/24",), reserved=(80,))
    for command in (Add((published,), (2,)), Nodes((target,)), Stat(100)):
        assert decode_command(encode(command)) == command


def test_identities_tell_ports_apart() -> None:
    def name(protocol: str, address: str | None) -> str:
        return Published(
            node="n", port=80, inner=1, protocol=Protocol(protocol), address=address
        ).id

    assert name("tcp", None) == "tcp/80"
    assert name("udp", "192.0.2.1") == "udp/192.0.2.1:80"
    assert name("tcp", "::1") == "tcp/[::1]:80"


def test_own_addresses_first_the_clients_family_before_the_other() -> None:
    target = Target(name="n", addresses=("fd00::1/64", "10.0.0.1/24", "10.0.0.2/24"))
    place = Place(target, NO_FD)
    assert [one for one, _ in place.candidates(socket.AF_INET)] == [
        "10.0.0.1",
        "fd00::1",
        "127.0.0.1",
        "::1",
    ]
    assert next(iter(place.candidates(socket.AF_INET6))) == ("fd00::1", socket.AF_INET6)


def test_a_node_without_addresses_is_reached_on_loopback() -> None:
    place = Place(Target(name="n"), NO_FD)
    assert [one for one, _ in place.candidates(socket.AF_INET)] == ["127.0.0.1", "::1"]


@given(st.integers(64, 1 << 31), st.integers(0, 1 << 16))
def test_the_shares_never_exceed_the_limit(descriptors: int, max_inside: int) -> None:
    bounds = Bounds.within(descriptors, max_inside)
    assert bounds.connections >= 1
    assert bounds.clients >= 1
    assert bounds.inside <= max_inside
    if descriptors > 4 * SPARE_DESCRIPTORS:
        used = bounds.inside + bounds.clients + bounds.connections * DESCRIPTORS
        assert used + SPARE_DESCRIPTORS <= descriptors
