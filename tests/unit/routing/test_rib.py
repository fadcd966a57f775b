"""What is read of the answers of BIRD 2.0.12 and FRR 8.4.4, kept as they came."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import closing
from pathlib import Path as File

import pytest

from hostlab.errors import Unsupported
from hostlab.routing import rib
from hostlab.routing.bird import BirdSocket, Peer, peers
from hostlab.routing.rib import Path, Rib, read_bird_paths, read_frr_paths
from hostlab.spec import routing_bird

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
    assert list(peers(bird_said("bird-protocols.txt"))) == [
        Peer("bgp4_r2", "10.0.0.2", "Established"),
        Peer("bgp6_r2", "2001:db8::2", "Established"),
        Peer("bgp4_r3", "10.0.0.3", "Active"),
        Peer("bgp6_r3", "2001:db8::3", "Active"),
    ]


def test_birds_paths_are_told_apart_and_one_is_best() -> None:
    addresses = {"bgp6_w1": W1, "bgp6_w2": W2, "bgp6_w3": W3}
    lines = bird_said("bird-route.txt")
    assert list(read_bird_paths(lines, addresses)) == [
        path(W1, 100, is_best=True),
        path(W3, 101),
        path(W2, 102),
    ]
    # None is, where none can be reached.
    none = [line.replace("] * (", "] (") for line in lines]
    assert not any(each.is_best for each in read_bird_paths(none, addresses))


def test_birds_path_over_ipv6_has_two_next_hops_and_may_have_no_med() -> None:
    lines = bird_said("bird-route-two-hops.txt")
    wanted = Path("fd00::1", "fd00::1", 0, ("65001",), is_best=True)
    assert list(read_bird_paths(lines, {"bgp6_f1": "fd00::1"})) == [wanted]
    less = [line for line in lines if "BGP.med" not in line]
    assert list(read_bird_paths(less, {"bgp6_f1": "fd00::1"})) == [wanted._replace(med=None)]


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


def test_frrs_best_of_a_neighbouring_as_is_not_yet_best() -> None:
    answer = json.loads((DATA / "frr-route-two-hops.json").read_text())
    del answer["paths"][0]["bestpath"]["overall"]
    (found,) = read_frr_paths(answer)
    assert not found.is_best


def test_frr_has_no_paths_of_a_prefix_that_it_does_not_know() -> None:
    assert list(read_frr_paths({})) == []


def frr_said(name: str) -> list[Path]:
    return list(read_frr_paths(json.loads((DATA / name).read_text())))


def test_frrs_path_over_ipv6_has_two_next_hops_and_may_have_no_med() -> None:
    wanted = Path("fd00::3", "fd00::3", None, ("65002",), is_best=True)
    assert frr_said("frr-route-two-hops.json") == [wanted]
    answer = json.loads((DATA / "frr-route-two-hops.json").read_text())
    answer["paths"][0]["nexthops"].reverse()
    answer["paths"][0]["metric"] = 0
    assert list(read_frr_paths(answer)) == [wanted._replace(med=0)]


def test_what_frr_announces_itself_is_no_path() -> None:
    assert frr_said("frr-own-route.json") == []


@pytest.mark.parametrize(
    ("answers", "tables", "is_found"),
    [
        (("bird-route-two-hops.txt",), ("bgp6",), True),
        ((b"8001 Network not found\n",), ("bgp6",), False),
        # BIRD does not know the word, for there is no such table.
        ((b"9001 syntax error\n", "bird-route-two-hops.txt"), ("bgp6", "master6"), True),
        ((b"9001 syntax error\n", b"8001 Network not found\n"), ("bgp6", "master6"), False),
    ],
)
def test_bird_is_asked_for_the_table_that_it_has(
    tmp_path: File,
    monkeypatch: pytest.MonkeyPatch,
    answers: tuple[str | bytes, ...],
    tables: tuple[str, ...],
    is_found: bool,
) -> None:
    place = str(tmp_path / "bird.ctl")
    monkeypatch.setattr(routing_bird, "SOCKET", place)
    asked = b""

    def answer() -> None:
        nonlocal asked
        theirs, _ = listener.accept()
        with theirs:
            theirs.sendall(b"0001 BIRD 2.0.12 ready.\n1002-bgp6_f1    BGP ---\n")
            theirs.sendall(
                b"1006-  BGP state: Established\n     Neighbor address: fd00::1\n0000 \n"
            )
            for each in answers:
                theirs.sendall(each if isinstance(each, bytes) else (DATA / each).read_bytes())
            while read := theirs.recv(1 << 16):
                asked += read

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen()
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            with closing(Rib()) as daemon:
                found = daemon.paths("2001:db8:70::/48")
        finally:
            thread.join()
    wanted = [f"show route 2001:db8:70::/48 table {table} all" for table in tables]
    assert asked.decode().splitlines() == ["show protocols all", *wanted]
    assert [each.peer for each in found] == (["fd00::1"] if is_found else [])


def test_where_no_daemon_answers_it_is_said(
    tmp_path: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing_bird, "SOCKET", str(tmp_path / "bird.ctl"))
    monkeypatch.setattr(rib, "BGPD", str(tmp_path / "bgpd.vty"))
    with pytest.raises(Unsupported, match="no daemon speaks BGP here"):
        Rib()
