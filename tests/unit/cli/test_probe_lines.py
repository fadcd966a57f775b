"""The line that repeats a probe asks the same."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from hostlab.checks.expectations import KINDS, expectation
from hostlab.checks.judge import judge
from hostlab.checks.kind import Expectation, ProbeExpectation
from hostlab.checks.verdict import Report
from hostlab.cli import probing
from hostlab.cli.main import run
from hostlab.spec.model import Check
from tests.unit.checks.test_expectations import SAID

pytestmark = pytest.mark.unit

PROBES = {name for name, kind in KINDS.items() if issubclass(kind, ProbeExpectation)}
MORE: list[tuple[str, dict[str, Any]]] = [
    ("udp", {"host": "ns1", "port": 7, "send": "-x", "answer": "y"}),
    ("tcp", {"targets": ["db:80"], "at_once": 7}),
    ("dns", {"name": "a.example", "rcode": "NXDOMAIN", "trace": True}),
    ("tls", {"server": "web", "name": "b.example", "verify": False, "authorities": "/etc/ca.pem",
             "days": 0.5, "names": ["b", "c"], "alpn": ["h2", "http/1.1"]}),
    ("smtp", {"server": "mail", "tls": "implicit", "verify": False, "helo": True, "name": "me",
              "user": "alice", "password": "x", "auth": "LOGIN", "sender": "", "size_bytes": 1000,
              "recipients": ["b@b", "c@c"], "eight_bit": True, "offers": ["SIZE", "DSN"]}),
    ("unix", {"path": "/run/x", "type": "datagram", "send": "ping pong", "answer": "^p"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [(kind, arguments) for kind, arguments, _ in SAID if kind in PROBES] + MORE,
)
def test_the_line_that_repeats_a_probe_asks_the_same(
    kind: str, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Expectation] = []

    def note(questions: Sequence[tuple[str, Mapping[str, Any]]], *_: object) -> Report:
        asked.extend(expectation(*each) for each in questions)
        return Report()

    monkeypatch.setattr(probing, "report_of", note)
    monkeypatch.setenv("HOSTLAB_PASSWORD", "x")
    wanted = expectation(kind, arguments)
    words = shlex.split(wanted.repeat("lab", "web", 5.0))
    assert words[-2:] == ["--from", "lab/web"]
    assert run(words[1:]) == 0
    if kind == "smtp" and "password" not in arguments:
        wanted = expectation(kind, {**arguments, "password": "x"})
    assert asked == [wanted]


def test_every_probe_is_tried_above() -> None:
    assert (
        {kind for kind, *_ in SAID}
        >= PROBES
        == {kind for kind, _ in MORE}
        | {
            *("ping", "ssh", "ntp"),
        }
    )


@pytest.mark.parametrize(
    ("kind", "arguments", "repeat"),
    [
        ("ntp", {"server": "127.0.0.1:1", "stratum": 3},
         "hostlab probe ntp 127.0.0.1:1 --stratum 3"),
        ("http", {"url": "http://127.0.0.1:1/", "resolve": {"a": "127.0.0.1", "b:2": "::1"},
                  "method": "POST", "headers": {"X": "y"}, "authorities": "/ca.pem"},
         "curl -sSi --max-time 1 --request POST --header 'X: y' --cacert /ca.pem"
         " --resolve a:1:127.0.0.1 --resolve b:2:::1 http://127.0.0.1:1/"),
        ("http", {"url": "http://127.0.0.1:1/", "method": "HEAD"},
         "curl -sSi --max-time 1 --head http://127.0.0.1:1/"),
    ],
)  # fmt: skip
def test_a_probe_from_this_machine_is_repeated_there(
    kind: str, arguments: dict[str, Any], repeat: str
) -> None:
    check = Check(nodes=(probing.HERE,), kind=kind, arguments=arguments, within_s=0.2)
    (row,) = judge([check], {probing.HERE: probing.Here()}, once=True).rows
    assert row.repeat == repeat
