"""What is read of the answers of BIRD 2.0.12 and FRR 8.4.4, kept as they came."""

from __future__ import annotations

import json
import socket
from pathlib import Path as File

import pytest

from hostlab.routing.bird import BirdSocket
from hostlab.routing.rib import (
    Path,
    Session,
    read_bird_paths,
    read_bird_sessions,
    read_frr_paths,
)

pytestmark = pytest.mark.unit

DATA = File(__file__).parents[2] / "data" / "rib"
W1, W2, W3 = "2001:db8:6::11", "2001:db8:7::12", "2001:db8:8::13"


def bird_said(name: str) -> list[str]:
    """An answer of BIRD's, by way of a socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"0001 BIRD 2.0.12 ready.\n" + (DATA / name).read_bytes())
        return BirdSocket(ours).ask("show it")


def path(peer: str, med: int, *, is_best: bool = False) -> Path:
    return Path(peer=peer, next_hop=peer, med=med, as_path=("65001",), is_best=is_best)


def test_birds_sessions_have_their_peers_and_states() -> None:
    """The other protocols, pipes among them, have a state of theirs and no neighbour."""
    assert dict(read_bird_sessions(bird_said("bird-protocols.txt"))) == {
        "bgp4_r2": Session("10.0.0.2", "Established"),
        "bgp6_r2": Session("2001:db8::2", "Established"),
        "bgp4_r3": Session("10.0.0.3", "Active"),
        "bgp6_r3": Session("2001:db8::3", "Active"),
    }


def test_birds_paths_are_told_apart_and_one_is_best() -> None:
    peers = {"bgp6_w1": W1, "bgp6_w2": W2, "bgp6_w3": W3}
    assert list(read_bird_paths(bird_said("bird-route.txt"), peers)) == [
        path(W1, 100, is_best=True),
        path(W3, 101),
        path(W2, 102),
    ]


def test_what_no_peer_has_told_is_no_path() -> None:
    assert list(read_bird_paths(bird_said("bird-own-route.txt"), {"bgp4_r2": "10.0.0.2"})) == []
    some = list(read_bird_paths(bird_said("bird-route.txt"), {"bgp6_w3": W3}))
    assert some == [path(W3, 101)]


def test_frrs_paths_are_told_apart_and_an_unreachable_one_is_not_best() -> None:
    assert list(read_frr_paths(json.loads((DATA / "frr-route.json").read_text()))) == [
        path(W1, 100),
        path(W2, 102),
        path(W3, 101, is_best=True),
    ]


def test_frr_has_no_paths_of_a_prefix_that_it_does_not_know() -> None:
    assert list(read_frr_paths({})) == []
