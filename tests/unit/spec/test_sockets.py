"""The operand `socket …`: what it says, what its event has, what is wrong with it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import SpecError
from hostlab.jobs.expression import Leaf
from hostlab.spec import sockets
from hostlab.spec.job import Match
from hostlab.spec.sockets import Accept, Proto, Rate, SocketType
from hostlab.spec.upstart import find_remarks, load_conf

pytestmark = pytest.mark.unit


def match(text: str) -> Match:
    return Match("socket", tuple(text.split()))


def parsed(text: str) -> sockets.ListeningSocket:
    return sockets.parse(text.split())


def test_upstarts_own_words() -> None:
    found = parsed("PROTO=inet PORT=34567 ADDR=127.0.0.1")
    assert (found.proto, found.type, found.addr, found.port) == (
        Proto.INET, SocketType.STREAM, "127.0.0.1", 34567)  # fmt: skip
    assert parsed("PROTO=inet PORT=1").addr == "0.0.0.0"
    assert parsed("PROTO=inet6 PORT=1").addr == "::"
    assert parsed("PROTO=unix PATH=/run/a") == parsed("PROTO=unix SOCKET_PATH=/run/a")


def test_everything_else() -> None:
    found = parsed(
        "PROTO=inet PORT=1 ACCEPT=inetd BACKLOG=7 FREEBIND=1 REUSEPORT=yes LIMIT=3/1m DEVICE=eth0 "
        "MAXCONN=9 PERSOURCE=2 FDNAME=web IDLE=30s KEEPALIVE=1"
    )
    assert (found.accept, found.backlog, found.free_bind, found.reuse_port) == (
        Accept.INETD, 7, True, True)  # fmt: skip
    assert (found.rate, found.max_connections, found.max_per_source) == (Rate(3, 60.0), 9, 2)
    file = parsed("SOCKET_PATH=/run/a MODE=0660 OWNER=web GROUP=www SYMLINKS=/a:/b REMOVE=1")
    assert (file.mode, file.owner, file.group, file.symlinks) == (0o660, "web", "www", ("/a", "/b"))
    assert parsed("PROTO=netlink FAMILY=route GROUPS=5").type is SocketType.RAW
    assert parsed("PROTO=vsock PORT=4000000000").cid is None


def test_how_often_it_may_start_a_job() -> None:
    assert parsed("PROTO=inet PORT=1").rate == Rate(20, 2.0)
    assert parsed("PROTO=inet PORT=1 ACCEPT=1").rate == Rate(200, 2.0)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("PROTO=inett PORT=1", "PROTO: `inett` is not among them", "did you mean `inet`?"),
        ("PROTO=inet", "PROTO=inet says its PORT", "`PROTO=inet PORT=…`"),
        ("PROTO=inet PORT=70000", "70000 is not between 0 and 65535", None),
        ("PROTO=inet PRT=1", "`PRT=1` says nothing about a socket", "did you mean `PORT`?"),
        ("PROTO=inet PORT=1 PORT=2", "`PORT` is said twice", None),
        ("PROTO=inet6 PORT=1 ADDR=1.2.3.4", "`1.2.3.4` is no address of this PROTO",
         "did you mean `PROTO=inet`?"),
        ("PROTO=unix PATH=run", "SOCKET_PATH: `run` is no absolute path",
         "`/run/x.sock`, or `@x` without a file"),
        ("PROTO=inet PORT=1 TYPE=dgram ACCEPT=1",
         "nobody connects to this socket, so there is nothing to accept", None),
        ("PROTO=unix PATH=/a TYPE=raw", "there is no raw of PROTO=unix",
         "TYPE=stream|dgram|seqpacket"),
        ("PORT=1", "a socket says its PROTO",
         "one of inet, inet6, unix, vsock, packet, netlink, fifo, special"),
        ("PROTO=fifo PATH=@a", "this is no path of a file",
         "only PROTO=unix has names without a file"),
        ("PROTO=inet PORT=1 LIMIT=3", "LIMIT: `3` is no limit",
         "so often in such a time: `20/2s`"),
    ],
)  # fmt: skip
def test_what_is_wrong(text: str, message: str, hint: str | None) -> None:
    with pytest.raises(SpecError) as caught:
        parsed(text)
    assert (caught.value.message, caught.value.hint) == (message, hint)


@given(st.lists(st.text(min_size=1, max_size=20), max_size=5))
def test_no_words_are_a_crash(words: list[str]) -> None:
    known = [f"{key}={word}" for key, word in zip(sockets.KNOWN, words, strict=False)]
    for each in (words, known):
        try:
            sockets.parse(each)
        except SpecError:
            continue


def test_its_event_has_upstarts_variables_in_upstarts_order() -> None:
    own = match("PROTO=inet PORT=80 BACKLOG=5")
    assert sockets.event(own) == (
        ("PROTO", "inet"), ("PORT", "80"), ("ADDR", "0.0.0.0"),
        ("NAME", "PROTO=inet PORT=80 BACKLOG=5"))  # fmt: skip
    path = sockets.event(match("PROTO=unix PATH=/run/a"))
    assert path[:2] == (("PROTO", "unix"), ("SOCKET_PATH", "/run/a"))


def test_who_hears_it() -> None:
    """Its own operand, and who names it; not another socket that says the same and more."""
    own = match("PROTO=inet PORT=80")
    other = match("PROTO=inet PORT=80 ADDR=127.0.0.1")
    named = match("NAME=web PROTO=inet PORT=80 ADDR=127.0.0.1")
    assert Leaf(own, 0).accepts("socket", sockets.event(own))
    assert not Leaf(own, 0).accepts("socket", sockets.event(other))
    assert Leaf(match("NAME=web"), 0).accepts("socket", sockets.event(named))
    assert not Leaf(match("NAME=we?"), 0).accepts("socket", sockets.event(named))


def test_the_sockets_of_a_job() -> None:
    text = "start on (startup and socket NAME=a) or socket PROTO=inet PRT=1 or socket NAME=a"
    job = load_conf(f"{text}\nexec true\n", file="x.conf", name="x")
    assert sockets.of_job(job) == (match("NAME=a"), match("PROTO=inet PRT=1"))
    ((word, error),) = sockets.problems(job)
    assert (word, error.hint) == ("PRT=1", "did you mean `PORT`?")


def test_a_job_file_with_a_wrong_socket_is_a_remark_with_its_place() -> None:
    text = "description x\nstart on startup or socket PROTO=inet PRT=1\nexec true\n"
    (remark,) = find_remarks(text, file="x.conf")
    assert remark.where is not None
    assert (remark.where.line, remark.where.column) == (2, 39)
    assert remark.message.startswith("this socket is not made: `PRT=1` says nothing")
    assert load_conf(text, file="x.conf", name="x").exec == "true"
