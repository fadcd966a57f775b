"""A real request to each of the ten daemons."""

from __future__ import annotations

from collections.abc import Callable

from hostlab.sync import Lab, Node
from tests.netns.init.daemon_site import ask, udp
from tests.netns.lab.lab_site import wait_until

NAME = b"\3www\7example\3org\0"
DNS_QUERY = b"\x12\x34\1\0\0\1\0\0\0\0\0\0%s\0\1\0\1"
NTP_REQUEST = b"\x23" + bytes(47)
"""Version 4, mode 3: a client (RFC 5905)."""
SNMP_GET_LOCATION = bytes.fromhex(
    "3029020101" "04067075626c6963"  # version 2c, `public`
    "a01c020401020304020100020100" "300e300c06082b06010201010600" "0500"  # get 1.3.6.1.2.1.1.6.0
)  # fmt: skip


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
"""Job -> what fails unless it serves."""


def wait_for(node: Node, command: str, what: str) -> None:
    wait_until(lambda: node.shell(command, timeout_s=20).status == 0, what)
