"""Real requests to daemons: from a peer on the same wire, or in the node itself."""

from __future__ import annotations

import socket
from collections.abc import Callable

from hostlab.sync import Node
from tests.netns.init.daemon_site import WITHIN_S, ask, udp
from tests.netns.lab.lab_site import wait_until

NAME = b"\3www\7example\3org\0"
DNS_QUERY = b"\x12\x34\1\0\0\1\0\0\0\0\0\0%s\0\1\0\1"
NTP_REQUEST = b"\x23" + bytes(47)
"""Version 4, mode 3: a client (RFC 5905)."""
SNMP_GET_LOCATION = bytes.fromhex(
    "3029020101" "04067075626c6963"  # version 2c, `public`
    "a01c020401020304020100020100" "300e300c06082b06010201010600" "0500"  # get 1.3.6.1.2.1.1.6.0
)  # fmt: skip


def address(node: Node, of: str) -> str:
    """The address under which a node knows another, or itself."""
    return ask(node, f"import socket; print(socket.gethostbyname({of!r}))")


def avahi_answers(server: Node, peer: Node) -> None:
    label = server.name.encode()
    name = bytes([len(label)]) + label + b"\5local\0"
    own = address(peer, peer.name)
    answer = udp(peer, "224.0.0.251", 5353, DNS_QUERY % name, own=own)
    assert socket.inet_aton(address(peer, server.name)) in answer


def chrony_answers(server: Node, peer: Node) -> None:
    answer = udp(peer, server.name, 123, NTP_REQUEST)
    assert (answer[0] & 7, answer[1]) == (4, 7)  # A server, of the stratum that it was given.


def cron_runs_a_job(server: Node, peer: Node) -> None:
    wait_for(server, "test -e /run/cron-has-run", "cron's job")


def dbus_answers(server: Node, peer: Node) -> None:
    to = "--dest=org.freedesktop.DBus / org.freedesktop.DBus.ListNames"
    answer = server.succeed(f"dbus-send --system --print-reply {to}")
    assert "org.freedesktop.DBus" in answer


def dnsmasq_answers(server: Node, peer: Node) -> None:
    answer = udp(peer, server.name, 53, DNS_QUERY % NAME)
    assert answer.endswith(bytes([192, 0, 2, 1]))


def lldpd_sees_its_neighbour(server: Node, peer: Node) -> None:
    show = "lldpcli show neighbors summary"
    try:
        wait_for(server, f"{show} | grep -q 'SysName: *{peer.name}'", "a neighbour in lldpd")
    except AssertionError as error:
        # Seen once in eleven runs of all tests, and not explained: what both say of themselves.
        told = [f"{each.name}: {each.jobs()['lldpd']}" for each in (server, peer)]
        seen = [each.shell(show).stdout.decode() for each in (server, peer)]
        raise AssertionError("\n".join((str(error), *told, *seen))) from error


def nginx_answers(server: Node, peer: Node) -> None:
    assert "nginx" in get(peer, f"http://{server.name}/")


def redis_answers(server: Node, peer: Node) -> None:
    # It forks, and so is ready by its file, before it listens.
    wait_for(server, "redis-cli ping", "redis to listen")
    assert server.succeed("redis-cli set colour red && redis-cli get colour") == "OK\nred\n"


def rsyslog_logs(server: Node, peer: Node) -> None:
    wait_for(
        server,
        "logger -t test a line; grep -q 'test: a line' /var/log/syslog",
        "a line in the log",
    )


def snmpd_answers(server: Node, peer: Node) -> None:
    assert b"Dock of the Bay" in udp(server, "127.0.0.1", 161, SNMP_GET_LOCATION)


def bird_has_a_route_of_frr(server: Node, peer: Node) -> None:
    wait_for(server, "birdc show route | grep -q '^203.0.113.0/24.*unicast'", "FRR's route")


def frr_has_a_route_of_bird(server: Node, peer: Node) -> None:
    wait_for(server, "vtysh -c 'show ip route bgp' | grep -q '192.0.2.0/24'", "BIRD's route")


def unbound_answers(server: Node, peer: Node) -> None:
    assert resolved(server, peer, NAME).endswith(bytes([192, 0, 2, 1]))


def sshd_lets_in(server: Node, peer: Node) -> None:
    """With a key that is made here; a whole session, PAM's part included."""
    peer.succeed("test -e /root/key || ssh-keygen -q -t ed25519 -N '' -f /root/key")
    key = peer.succeed("cat /root/key.pub").strip()
    server.succeed(f"mkdir -p -m 700 /root/.ssh && echo '{key}' > /root/.ssh/authorized_keys")
    options = "-i /root/key -o StrictHostKeyChecking=no -o BatchMode=yes -o LogLevel=ERROR"
    assert peer.succeed(f"ssh {options} root@{server.name} hostname") == f"{server.name}\n"


def dovecot_lets_in(server: Node, peer: Node) -> None:
    body = (
        "import imaplib\n"
        f"m = imaplib.IMAP4({server.name!r}); m.login('alice', 'secret')\n"
        "print(m.select('INBOX')[0], m.append('INBOX', None, None, b'Subject: a\\r\\n\\r\\n')[0])\n"
    )
    assert ask(peer, body) == "OK OK"


def postfix_delivers(server: Node, peer: Node) -> None:
    before = int(server.succeed("cat /var/mail/alice 2>/dev/null | grep -c ^From: || true"))
    to = f"alice@{server.name}"
    body = (
        "import smtplib\n"
        f"with smtplib.SMTP({server.name!r}) as s:\n"
        f"    s.sendmail('bob@example.org', [{to!r}], 'From: bob\\r\\n\\r\\nhello')\n"
    )
    ask(peer, body)
    wait_for(server, f"test $(grep -c ^From: /var/mail/alice) = {before + 1}", "the mail")


def resolved(server: Node, peer: Node, name: bytes) -> bytes:
    """The answer to a query for an address."""
    return udp(peer, server.name, 53, DNS_QUERY % name)


def get(node: Node, url: str) -> str:
    """The body of a page."""
    return ask(node, f"import urllib.request as r; print(r.urlopen({url!r}).read().decode())")


Serves = Callable[[Node, Node], None]
"""Fails unless the first node serves; the second is its neighbour."""

SERVES: dict[str, Serves] = {
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
"""Job -> its request."""


def wait_for(node: Node, command: str, what: str) -> None:
    wait_until(
        lambda: node.shell(command, timeout_s=WITHIN_S).status == 0, what, timeout_s=WITHIN_S
    )
