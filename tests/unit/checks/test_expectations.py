"""The arguments of each kind, and what they say."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hostlab.checks.access import JobStatus
from hostlab.checks.expectations import KINDS, expectation, failed_jobs
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
