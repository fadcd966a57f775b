"""The arguments of each kind, and what they say."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hostlab.checks.access import JobStatus, failed_jobs
from hostlab.checks.expectations import KINDS, expectation
from hostlab.checks.kind import LINE_CHARACTERS, last_lines
from hostlab.errors import SpecError
from hostlab.jobs.job_state import JobState

pytestmark = pytest.mark.unit

SAID: list[tuple[str, dict[str, Any], str]] = [
    ("listens", {"port": 80, "protocol": "tcp", "address": None}, "80"),
    ("listens", {"port": 53, "protocol": "udp", "address": "10.0.0.1"}, "10.0.0.1:53/udp"),
    ("http", {"url": "http://web/", "status": 200, "body": None}, "http://web/"),
    ("reaches", {"host": "db", "port": 5432, "protocol": "tcp"}, "db:5432"),
    ("reaches", {"host": "fd00::1", "port": 53, "protocol": "udp"}, "[fd00::1]:53/udp"),
    ("not_reaches", {"host": "db", "port": None, "protocol": "icmp"}, "db"),
    ("ping", {"hosts": ["db", "web"], "count": 3, "loss": 0.4, "rtt_s": 0.02}, "db, web"),
    ("tcp", {"targets": ["db:80,90-99", "[fd00::1]:22"], "want": "closed"},
     "db:80,90-99 [fd00::1]:22"),
    ("udp", {"host": "fd00::1", "port": 53, "want": "silent"}, "[fd00::1]:53"),
    ("dns", {"name": "a.example", "type": "MX", "servers": ["ns1", "ns2"],
             "subnets": ["10.0.0.0/8"], "answer": ["10 b."], "rcode": "NOERROR", "scope": 24,
             "distinct": True, "tcp": True, "recursion": False, "authoritative": True,
             "dnssec": True},
     "a.example MX at ns1, ns2 for 10.0.0.0/8"),
    ("tls", {"server": "web:8443", "days": 14, "names": ["b"], "least": "TLSv1.3"}, "web:8443"),
    ("smtp", {"server": "mail", "user": "alice", "password": "x", "recipients": ["bob@b"],
              "tls": "starttls", "refused": True}, "mail as alice to bob@b"),
    ("smtp", {"server": "mail", "relay": True}, "mail: relay"),
    ("ssh", {"server": "web:2222", "banner": "OpenSSH", "without": ["ssh-rsa"]}, "web:2222"),
    ("ntp", {"server": "clock", "stratum": 3, "offset_s": 0.1}, "clock"),
    ("unix", {"path": "/run/x", "type": "stream", "answer": "pong"}, "/run/x"),
    ("bgp_session", {}, "any: up"),
    ("ospf", {}, "any"),
    ("command", {"run": "true", "status": 0, "stdout": None}, "true"),
    ("file", {"path": "/etc/motd", "is": "link", "mode": 0o640, "owner": ":www", "target": "x"},
     "/etc/motd (link, mode 0640, owner :www, leads to x)"),
    ("sysctl", {"name": "net.ipv4.ip_forward", "value": "1"}, "net.ipv4.ip_forward: 1"),
    ("job", {"name": "www", "state": "running"}, "www: running"),
    ("service", {"name": "www", "running": True, "enabled": False}, "www (running, not enabled)"),
    ("process", {"name": "cron", "count": 1, "args": "-f"}, "cron (count 1, args '-f')"),
    ("package", {"name": "nginx", "version": "1.22.*"}, "nginx 1.22.*"),
    ("package", {"name": "nginx", "installed": False}, "nginx (not installed)"),
    ("user", {"name": "www", "uid": 33, "groups": ["adm", "ssl"]},
     "www (uid 33, groups adm and ssl)"),
    ("group", {"name": "adm", "members": ["www"]}, "adm (members www)"),
    ("mount", {"path": "/srv", "type": "ext4", "options": ["ro"]}, "/srv (type ext4, options ro)"),
    ("interface", {"name": "eth0", "state": "down"}, "eth0 (down)"),
    ("interface", {"name": "eth0", "mtu": 9000, "addresses": ["10.0.0.1"]},
     "eth0 (mtu 9000, addresses 10.0.0.1)"),
    ("address", {"address": "10.0.0.1/24", "interface": "eth0"}, "10.0.0.1/24 dev eth0"),
    ("route", {"to": "default", "via": "r1", "metric": 5}, "default via r1 metric 5"),
    ("bgp", {"prefix": "2001:db8:30::1/128", "med": 100,
             "paths": [{"name": "w1", "addresses": ["fd00::1"], "med": 102}],
             "best": {"name": "w3", "addresses": ["fd00::3"]},
             "next_hop": {"name": "w3", "addresses": ["fd00::3"]}},
     "2001:db8:30::1/128, paths from w1 102, best from w3, next hop w3, med 100"),
    ("bgp", {"prefix": "10.0.0.0/8", "paths": []}, "10.0.0.0/8, no path"),
    ("bgp_session", {"peer": {"name": "w1", "addresses": ["fd00::1"]}, "state": "up"}, "w1: up"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "arguments", "text"), SAID)
def test_what_a_description_gives_is_understood(
    kind: str, arguments: dict[str, Any], text: str
) -> None:
    typed = expectation(kind, arguments)
    assert typed.text() == text
    assert typed.expected()
    assert typed.repeat("lab", "web", 5.0).startswith("hostlab ")
    # What is sent into a node is what was meant.
    assert msgspec.convert(msgspec.to_builtins(typed), KINDS[kind]) == typed


@pytest.mark.parametrize(
    ("kind", "arguments", "text", "expected"),
    [
        ("file", {"path": "/x"}, "/x", "/x to be there"),
        ("file", {"path": "/x", "is": "absent"}, "/x (absent)", "/x to be absent"),
        ("file", {"path": "/x", "matches": "y"}, "/x (matches /y/)", "/x to match /y/"),
        ("file", {"path": "/x", "size": 3, "contains": "y", "lacks": ["z"]},
         "/x (size 3, contains 'y', lacks 'z')", "/x to be size 3, to contain 'y', to lack 'z'"),
        ("process", {"name": "x", "count": 0, "user": "me"}, "x (count 0, user me)",
         "no process x with user me"),
        ("process", {"name": "x", "count": 2}, "x (count 2)", "2 processes x"),
    ],
)  # fmt: skip
def test_what_is_expected_is_a_sentence(
    kind: str, arguments: dict[str, Any], text: str, expected: str
) -> None:
    typed = expectation(kind, arguments)
    assert (typed.text(), typed.expected()) == (text, expected)


def test_every_kind_is_tried_above() -> None:
    assert {kind for kind, _, _ in SAID} == set(KINDS)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("listen", {}, "no kind"),
        ("listens", {}, "port"),
        ("listens", {"port": 65536}, "65535"),
        ("listens", {"port": 1, "protocol": "icmp"}, "icmp"),
        ("http", {"url": "http://a/", "code": 200}, "code"),
        ("job", {"name": "www", "state": "done"}, "done"),
    ],
)
def test_what_cannot_be_meant_is_said(kind: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        expectation(kind, arguments)


def status(state: JobState) -> JobStatus:
    return JobStatus(state=state, exit_status=1)


def test_hope_is_gone_when_a_job_failed_and_none_runs() -> None:
    failed, stopped = status(JobState.FAILED), status(JobState.STOPPED)
    assert failed_jobs({}) is None
    assert failed_jobs({"a": stopped}) is None
    assert failed_jobs({"a": failed, "b": status(JobState.RUNNING)}) is None
    assert failed_jobs({"a": failed, "b": status(JobState.STARTING)}) is None
    seen = failed_jobs({"b": stopped, "a": failed})
    assert seen is not None
    assert seen.hopeless
    assert seen.text == "nothing will: job a is failed (exit status 1) and no other runs"


def test_the_last_lines_of_an_output_are_few_and_short() -> None:
    assert last_lines(b"a\nb\n") == ("a", "b")
    assert last_lines(b"".join(b"%d\n" % n for n in range(100))) == tuple(map(str, range(80, 100)))
    (line,) = last_lines(bytes(1 << 20))
    assert line == "\0" * LINE_CHARACTERS + " …"
