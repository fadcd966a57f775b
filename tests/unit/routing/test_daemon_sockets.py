"""The daemons' control sockets, byte by byte."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from hostlab.errors import Failed
from hostlab.routing.bird import Bird, BirdSocket
from hostlab.routing.frr import VtySocket
from hostlab.routing.sessions import Gone, Sessions
from hostlab.spec.routing import Bfd, Bgp, Ospf, RawUse, Routing

pytestmark = pytest.mark.unit


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"0001 BIRD 2.0.12 ready.\n")
        yield ours, theirs


def test_bird_answers_between_lines_of_its_log(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    bird = BirdSocket(ours)
    theirs.sendall(b"+ospf4: Neighbor 10.0.0.1 changed state\n1013-ospf4:\n  10.0.0.1 Full/PtP\n")
    theirs.sendall(b"+more\n0000 \n")
    assert bird.ask("show ospf neighbors") == ["ospf4:", " 10.0.0.1 Full/PtP"]
    assert theirs.recv(100) == b"show ospf neighbors\n"


@pytest.mark.parametrize("where", ["before", "behind", "nowhere"])
def test_what_bird_logs_while_it_answers_is_noted(
    pair: tuple[socket.socket, socket.socket], where: str
) -> None:
    ours, theirs = pair
    bird = BirdSocket(ours)
    assert not bird.has_told
    log = b"+bgp4_y: BGP session established\n"
    before, behind = (log if where == side else b"" for side in ("before", "behind"))
    theirs.sendall(before + b"1006-bgp4_y\n  BGP state: OpenConfirm\n0000 \n" + behind)
    bird.ask("show protocols all")
    assert bird.has_told == (where != "nowhere")
    # What lies behind the answer is there until it is heard.
    assert bird.hear()
    assert not bird.has_told


@pytest.mark.parametrize("answer", ["8003 No protocols match", "9001 syntax error"])
def test_birds_error_is_told_in_its_words(
    pair: tuple[socket.socket, socket.socket], answer: str
) -> None:
    ours, theirs = pair
    bird = BirdSocket(ours)
    theirs.sendall(f"{answer}\n".encode())
    with pytest.raises(Failed, match=f"BIRD says: {answer[5:]}"):
        bird.ask("show protocols x")


def test_half_a_line_of_the_log_is_kept_for_its_other_half(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    bird = BirdSocket(ours)
    theirs.sendall(b"+one\n+tw")
    assert bird.hear()
    theirs.sendall(b"o\n0013 done\n")
    assert bird.ask("down") == ["done"]


@pytest.mark.parametrize("heard", [True, False])
def test_a_bird_that_hangs_up_is_gone(
    pair: tuple[socket.socket, socket.socket], *, heard: bool
) -> None:
    ours, theirs = pair
    bird = BirdSocket(ours)
    theirs.close()
    if heard:
        assert not bird.hear()
    else:
        with pytest.raises(Gone):
            bird.ask("show status")


@pytest.mark.parametrize(
    "routing",
    [
        Routing(router_id="10.0.0.1", bgp=Bgp(asn=1)),
        Routing(router_id="10.0.0.1", ospf=Ospf(), bfd=Bfd(), raw_use=RawUse.REPLACE),
    ],
)
def test_bird_is_not_asked_for_what_it_would_have_an_error_for(
    pair: tuple[socket.socket, socket.socket], routing: Routing
) -> None:
    ours, theirs = pair
    theirs.sendall(b"0000 \n")
    bird = Bird(routing, ours)
    assert bird.sessions() == Sessions()
    assert theirs.recv(100) == b"echo all\n"


def vty(theirs: socket.socket, ours: socket.socket) -> VtySocket:
    theirs.sendall(b"\0\0\0\0")
    return VtySocket("ospfd", ours)


def test_vtys_answer_ends_with_its_status() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        daemon = vty(theirs, ours)
        theirs.sendall(b"{}\n\0")
        theirs.sendall(b"\0\0\0")
        assert daemon.ask("show ip ospf neighbor json") == "{}\n"
        theirs.sendall(b"% Unknown command\n\0\0\0\x02")
        with pytest.raises(Failed, match="ospfd says to 'x': % Unknown command"):
            daemon.ask("x")
        theirs.close()
        with pytest.raises(Gone):
            daemon.ask("show version")


def test_the_end_of_vtys_answer_comes_in_pieces() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        daemon = vty(theirs, ours)
        for piece in (b"{", b"}", b"\0", b"\0", b"\0", b"\0"):
            theirs.send(piece)
        assert daemon.ask("show ip ospf neighbor json") == "{}"


def test_the_log_of_a_daemon_comes_as_a_descriptor() -> None:
    ours, theirs = socket.socketpair()
    log, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, writer:
        daemon = vty(theirs, ours)
        with log:
            socket.send_fds(theirs, [b"\0\0\0\0"], [log.fileno()])
        with daemon.monitor() as found:
            writer.send(b"AdjChg")
            assert found.recv(100) == b"AdjChg"
