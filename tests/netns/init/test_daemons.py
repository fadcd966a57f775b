"""Ten daemons run under their own unchanged job files: they come up, serve, and stop clean."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hostlab.checks import JobState
from hostlab.sync import Lab, Node
from tests.netns.init.daemon_site import CORPUS, DAEMONS, ask, cgroup_of, daemons, udp
from tests.netns.lab.lab_site import wait_until

pytestmark = pytest.mark.netns

EXPECTED = (
    # What a node may not do on the machine.
    r"dbus: unable to set oom adjustment: Permission denied; it goes without",
    r"Sending CONT signal to lldpd main process \(\d+\)",
    r"Sending TERM signal to [\w-]+ main process \(\d+\)",
    r"cron main process \(\d+\) killed by TERM signal",
)
"""What init may have to say of the ten."""
NAME = b"\3www\7example\3org\0"
DNS_QUERY = b"\x12\x34\1\0\0\1\0\0\0\0\0\0%s\0\1\0\1"
NTP_REQUEST = b"\x23" + bytes(47)
"""Version 4, mode 3: a client (RFC 5905)."""
SNMP_GET_LOCATION = bytes.fromhex(
    "3029020101" "04067075626c6963"  # version 2c, `public`
    "a01c020401020304020100020100" "300e300c06082b06010201010600" "0500"  # get 1.3.6.1.2.1.1.6.0
)  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with daemons(tmp_path_factory.mktemp("daemons")) as found:
        yield found


def avahi_answers(lab: Lab) -> None:
    name = b"\6server\5local\0"
    answer = udp(lab["peer"], "224.0.0.251", 5353, DNS_QUERY % name, own="10.0.0.2")
    assert bytes([10, 0, 0, 1]) in answer


def chrony_answers(lab: Lab) -> None:
    answer = udp(lab["peer"], "10.0.0.1", 123, NTP_REQUEST)
    assert (answer[0] & 7, answer[1]) == (4, 7)  # A server, of the stratum that it was given.


def cron_runs_a_job(lab: Lab) -> None:
    wait_for(lab["server"], "test -e /run/cron-has-run", "cron's job")


def dbus_answers(lab: Lab) -> None:
    to = "--dest=org.freedesktop.DBus / org.freedesktop.DBus.ListNames"
    answer = lab["server"].succeed(f"dbus-send --system --print-reply {to}")
    assert "org.freedesktop.DBus" in answer


def dnsmasq_answers(lab: Lab) -> None:
    answer = udp(lab["peer"], "10.0.0.1", 53, DNS_QUERY % NAME)
    assert answer.endswith(bytes([192, 0, 2, 1]))


def lldpd_sees_its_neighbour(lab: Lab) -> None:
    show = "lldpcli show neighbors summary"
    wait_for(lab["server"], f"{show} | grep -q 'SysName: *peer'", "a neighbour in lldpd")


def nginx_answers(lab: Lab) -> None:
    body = "import urllib.request as r; print(r.urlopen('http://server/').read())"
    assert "nginx" in ask(lab["peer"], body)


def redis_answers(lab: Lab) -> None:
    server = lab["server"]
    assert server.succeed("redis-cli set colour red && redis-cli get colour") == "OK\nred\n"


def rsyslog_logs(lab: Lab) -> None:
    lab["server"].succeed("logger -t test a line")
    wait_for(lab["server"], "grep -q 'test: a line' /var/log/syslog", "a line in the log")


def snmpd_answers(lab: Lab) -> None:
    assert b"Dock of the Bay" in udp(lab["server"], "127.0.0.1", 161, SNMP_GET_LOCATION)


SERVES: dict[str, Callable[[Lab], None]] = {
    "avahi-daemon": avahi_answers,
    "chrony": chrony_answers,
    "cron": cron_runs_a_job,
    "dbus": dbus_answers,
    "dnsmasq": dnsmasq_answers,
    "lldpd": lldpd_sees_its_neighbour,
    "nginx": nginx_answers,
    "redis-server": redis_answers,
    "rsyslog": rsyslog_logs,
    "snmpd": snmpd_answers,
}


def test_the_boot_brings_all_of_them_up(lab: Lab) -> None:
    server = lab["server"]
    states = {name: job.state for name, job in server.jobs().items() if name in DAEMONS}
    assert states == dict.fromkeys(DAEMONS, JobState.RUNNING)
    assert surprises(server) == []


@pytest.mark.parametrize("name", DAEMONS)
def test_its_file_is_the_one_of_the_corpus(lab: Lab, name: str) -> None:
    shown = lab["server"].execute(("cat", f"/etc/init/{name}.conf")).stdout
    assert shown == (CORPUS / DAEMONS[name][0]).read_bytes()


@pytest.mark.parametrize("name", DAEMONS)
def test_daemon_serves(lab: Lab, name: str) -> None:
    SERVES[name](lab)


@pytest.mark.parametrize("name", DAEMONS)
def test_daemon_stops_clean_and_comes_back(lab: Lab, name: str) -> None:
    server = lab["server"]
    main = server.jobs()[name].pid
    assert main is not None
    group = cgroup_of(server, main).parent
    assert processes(group)
    assert server.succeed(f"initctl stop {name}") == f"{name} stop/waiting\n"
    assert processes(group) == set()
    assert server.jobs()[name].state is JobState.STOPPED
    running = rf"{name} start/running, process \d+\n"
    assert re.fullmatch(running, server.succeed(f"initctl start {name}"))
    server.wait_settled(within_s=30)
    SERVES[name](lab)
    assert surprises(server) == []


def wait_for(node: Node, command: str, what: str) -> None:
    wait_until(lambda: node.shell(command, timeout_s=20).status == 0, what)


def processes(group: Path) -> set[str]:
    """The processes of a job's cgroup and of those below it."""
    found: set[str] = set()
    for place, _, _ in os.walk(group):
        try:
            found |= set(Path(place, "cgroup.procs").read_text().split())
        except FileNotFoundError:
            continue  # Taken away since it was listed.
    return found


def surprises(node: Node) -> list[str]:
    """What init has to say and is not expected."""
    lines = Path(node.init_log_path()).read_text().splitlines()
    return [line for line in lines if not any(re.search(text, line) for text in EXPECTED)]
