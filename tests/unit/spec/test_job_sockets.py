"""`sockets:` of a job in a description."""

from __future__ import annotations

import pytest

from hostlab.errors import SpecErrors
from hostlab.spec import load
from hostlab.spec.condition import print_condition
from hostlab.spec.job import Job

pytestmark = pytest.mark.unit


def job(keys: str) -> Job:
    lab = load(f"nodes: {{a: {{jobs: {{j: {{exec: x, {keys}}}}}}}}}", file="lab.yaml")
    return lab.nodes[0].jobs[0]


def started(keys: str) -> str:
    start_on = job(keys).start_on
    assert start_on is not None
    return print_condition(start_on)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("80", "PROTO=inet6 TYPE=stream PORT=80"),
        ("53/udp", "PROTO=inet6 TYPE=dgram PORT=53"),
        ("'127.0.0.1:80'", "PROTO=inet TYPE=stream PORT=80 ADDR=127.0.0.1"),
        ("'[::1]:80'", "PROTO=inet6 TYPE=stream PORT=80 ADDR=::1"),
        ("'@name'", "PROTO=unix TYPE=stream SOCKET_PATH=@name"),
        ("{listen: /run/s, mode: '660', owner: web, symlinks: [/a, /b], remove: true}",
         "PROTO=unix TYPE=stream SOCKET_PATH=/run/s MODE=0660 OWNER=web SYMLINKS=/a:/b REMOVE=1"),
        ("{listen: 80, name: web, backlog: 5, limit: 5/1m, idle: 1.5s, defer: 2m, v6_only: false}",
         "PROTO=inet6 TYPE=stream PORT=80 FDNAME=web LIMIT=5/1m IDLE=1.5s BACKLOG=5 IPV6ONLY=0 "
         "DEFER=120s"),
    ],
)  # fmt: skip
def test_what_it_says(said: str, words: str) -> None:
    found = started(f"sockets: {said}").removeprefix("socket ").split()
    assert sorted(found) == sorted(words.split())


def test_without_start_on_only_a_connection_starts_it() -> None:
    one, two = "PROTO=inet6 TYPE=stream PORT=80", "PROTO=unix TYPE=stream SOCKET_PATH=/s"
    assert started("sockets: [80, /s]") == f"(socket {one} or socket {two})"
    assert started("start_on: go, sockets: 80") == f"(go or socket {one})"


def test_one_that_accepts_has_an_instance_a_connection() -> None:
    assert job("sockets: {listen: 80, accept: true}").instance == "$CONNECTION"
    assert job("sockets: {listen: 80, accept: inetd}, instance: $PORT").instance == "$PORT"
    assert job("sockets: 80").instance == ""


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("sockets: foo", "`foo` is no address to listen on"),
        ("sockets: 99999", "99999 is not between 0 and 65535"),
        ("sockets: {listen: 80, modee: '600'}", "unknown key"),
        ("sockets: {mode: '600'}", "listen"),
        ("sockets: {listen: 80, limit: 5}", "`5` is no limit"),
        ("sockets: {listen: 53/udp, accept: true}", "nobody connects to this socket"),
        ("sockets: {listen: 53/udp, type: stream}", "is a datagram socket"),
        ("sockets: 80, manual: true", "manual"),
        ("sockets: 80, namespaces: {net: a}", "init listens in its own node"),
        ("start_on: socket PROTO=inet PRT=1", "says nothing about a socket"),
    ],
)
def test_what_is_wrong_has_its_place(keys: str, message: str) -> None:
    with pytest.raises(SpecErrors) as caught:
        job(keys)
    (error,) = caught.value.errors
    assert message in error.message
    assert error.where is not None
    assert error.where.line == 1
