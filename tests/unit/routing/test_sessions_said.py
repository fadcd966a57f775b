"""What is read of sessions in the answers of BIRD 2.0.12 and FRR 8.4.4.

Kept as they came, of a segment with six routers; rows that add nothing are cut out.
"""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from hostlab.routing.asking import sessions_from_bird
from hostlab.routing.bird import Bird, BirdSocket, Peer, neighbours, peers
from hostlab.routing.expected import Adjacency, Expected
from hostlab.routing.frr import Frr
from hostlab.routing.sessions import Neighbour, Sessions, missing
from hostlab.spec.routing import Bfd, Bgp, Ospf, Routing
from hostlab.spec.routing import Peer as Described

pytestmark = pytest.mark.unit

DATA = Path(__file__).parents[2] / "data" / "sessions"
GREETING = b"0001 BIRD 2.0.12 ready.\n"
PEERS = {"fd00::1": "Established", "10.0.0.99": "Active", "fe80::99": "Connect"}


def said(name: str) -> bytes:
    return (DATA / name).read_bytes()


def bird_neighbours() -> dict[str, Neighbour]:
    """Two that are full, and three that are neither designated router nor backup."""
    full = {"10.0.0.6": "Full/DR", "10.0.0.5": "Full/BDR"}
    others = dict.fromkeys(("10.0.0.4", "10.0.0.1", "10.0.0.2"), "2-Way/Other")
    return {
        router_id: Neighbour(router_id, state, state.startswith("Full"), state.startswith("2-Way"))
        for router_id, state in (full | others).items()
    }


def test_birds_sessions() -> None:
    peer = Described(name="x", address="10.0.0.99", local="10.0.0.3", asn=65009)
    routing = Routing(
        router_id="10.0.0.3", ospf=Ospf(), bfd=Bfd(), bgp=Bgp(asn=65002, peers=(peer,))
    )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(GREETING + b"0000 \n")
        for name in ("bird-ospf4.txt", "bird-ospf6.txt", "bird-peers.txt", "bird-bfd.txt"):
            theirs.sendall(said(name))
        found = Bird(routing, ours).sessions()
        asked = theirs.recv(1 << 16).decode().splitlines()
    assert asked == [
        "echo all",
        "show ospf neighbors ospf4",
        "show ospf neighbors ospf6",
        'show protocols all "bgp?_*"',
        "show bfd sessions",
    ]
    assert found.neighbours == {Adjacency(f, "eth0"): bird_neighbours() for f in (4, 6)}
    assert found.peers == PEERS
    # One of the link itself is only one along with its interface.
    assert found.bfd.keys() >= {"10.0.0.2", "fd00::1", "fe80::cb:4aff:fe71:cbe0%eth0"}
    assert len(found.bfd) == 11
    assert set(found.bfd.values()) == {"up"}


def test_a_neighbour_that_is_not_there_yet_is_neither_full_nor_two_way() -> None:
    line = " 10.0.0.6    \t  1\tExchange/DR\t 3.507\teth0       10.0.0.6"
    assert list(neighbours([line])) == [
        ("eth0", Neighbour("10.0.0.6", "Exchange/DR", is_full=False, is_two_way=False))
    ]


def test_a_session_of_birds_has_its_own_state() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(GREETING + said("bird-peers.txt"))
        assert list(peers(BirdSocket(ours).ask("show protocols all"))) == [
            Peer("bgp6_f1", "fd00::1", "Established"),
            Peer("bgp4_10_0_0_99", "10.0.0.99", "Active"),
            Peer("ll", "fe80::99", "Connect"),
        ]


def test_a_bird_of_which_nothing_is_known_is_asked_for_its_protocols() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(
            GREETING
            + b"2002-Name       Proto      Table      State  Since         Info\n"
            + b"1002-ospf4      OSPF       master4    up     02:58:00.655  Running\n"
            + b" inner      OSPF       master6    up     02:58:00.655  Running\n"
            + b" pipe4      Pipe       ---        up     02:58:00.655  master4 <=> bgp4\n"
            + b" ll         BGP        ---        start  02:58:00.655  Connect\n"
            + b" other      BGP        ---        start  02:58:00.655  Idle\n0000 \n"
            + b"1006-  Channel ipv4\n0000 \n"
            + said("bird-ospf4.txt")
            + b"1006-  Channel ipv6\n0000 \n"
            + said("bird-ospf6.txt")
            + said("bird-peers.txt")
            + b"1006-  BGP state:          Idle\n     Neighbor address: 10.0.0.98\n0000 \n"
        )
        found = sessions_from_bird(ours)
        asked = theirs.recv(1 << 16).decode().splitlines()
    assert asked == [
        "show protocols",
        'show protocols all "ospf4"',
        "show ospf neighbors ospf4",
        'show protocols all "inner"',
        "show ospf neighbors inner",
        'show protocols all "ll"',
        'show protocols all "other"',
    ]
    wanted = {Adjacency(f, "eth0"): bird_neighbours() for f in (4, 6)}
    assert found == Sessions(wanted, PEERS | {"10.0.0.98": "Idle"})


def frr(answers: dict[str, bytes]) -> Sessions:
    """What is found in one answer of each daemon; each answer is a packet of its own here."""
    with ExitStack() as stack:
        daemons = {}
        for name, answer in answers.items():
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            log, writer = socket.socketpair()
            for each in (theirs, log, writer):
                stack.enter_context(each)
            theirs.send(b"\0\0\0\0")
            socket.send_fds(theirs, [b"\0\0\0\0"], [log.fileno()])
            theirs.send(answer + b"\0\0\0\0")
            daemons[name] = ours
        found = Frr(daemons)
        stack.callback(found.close)
        return found.sessions()


def test_frrs_sessions() -> None:
    found = frr(
        {
            "ospfd": said("frr-ospf4.json"),
            "ospf6d": said("frr-ospf6.json"),
            "bgpd": said("frr-bgp.json"),
            "bfdd": said("frr-bfd.json"),
        }
    )
    assert found.neighbours == {
        Adjacency(4, "eth0"): {
            "10.0.0.2": Neighbour("10.0.0.2", "2-Way/DROther", is_full=False, is_two_way=True),
            "10.0.0.5": Neighbour("10.0.0.5", "Full/Backup", is_full=True, is_two_way=False),
        },
        Adjacency(6, "eth0"): {
            f"10.0.0.{n}": Neighbour(
                f"10.0.0.{n}",
                "Full" if n > 4 else "Twoway",
                is_full=n > 4,
                is_two_way=n <= 4,
            )
            for n in range(2, 7)
        },
    }
    assert found.peers == dict.fromkeys(("10.0.0.3", "10.0.0.4", "fd00::3"), "Established")
    assert found.bfd == dict.fromkeys(("10.0.0.2", "fe80::cb:4aff:fe71:cbe0%eth0", "fd00::3"), "up")


def test_frr_whose_ospf_has_not_begun_has_no_sessions() -> None:
    assert frr({"ospfd": b"\n", "ospf6d": b"{}", "bgpd": b"{}"}) == Sessions()


def test_two_way_will_do_among_others_only() -> None:
    """Between two alone one of them is the designated router."""
    where = Adjacency(4, "eth0")
    now = frr({"ospfd": said("frr-ospf4.json")})
    wanted = {"10.0.0.2": "f2", "10.0.0.5": "b3"}
    assert missing(Expected(neighbours={where: wanted}), now) == []
    assert missing(Expected(neighbours={where: {"10.0.0.2": "f2"}}), now) == [
        "OSPF for IPv4 with f2 on eth0: 2-Way/DROther"
    ]


def test_a_peer_that_is_nobodys_is_named_once() -> None:
    wanted = Expected(peers={"10.0.0.99": "10.0.0.99", "fd00::1": "f1"})
    assert missing(wanted, Sessions(peers={"fd00::1": "Idle"})) == [
        "BGP with 10.0.0.99: not there",
        "BGP with f1 (fd00::1): Idle",
    ]
