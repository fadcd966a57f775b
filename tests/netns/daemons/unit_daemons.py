"""Fifteen of Debian's daemons, each with what a node needs to run it under its own unit.

The units are the packages' own, and so are the programs. A node's description adds what an
administrator adds on a host: configuration, and what differs in a node is said where it stands.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from hostlab.sync import Node
from tests.netns.init import daemon_requests as ask
from tests.netns.init.daemon_site import ask as run
from tests.netns.init.daemon_site import udp
from tests.netns.lab.lab_site import wait_until

FRR_DAEMONS: Final = """\
bgpd=yes
vtysh_enable=yes
zebra_options="-A 127.0.0.1 -s 90000000"
bgpd_options="-A 127.0.0.1"
"""
FRR: Final = """\
hostname frr
router bgp 65002
 no bgp ebgp-requires-policy
 neighbor ${bird.address} remote-as 65001
 neighbor ${bird.address} timers connect 1
 neighbor ${bird.address} advertisement-interval 0
 address-family ipv4 unicast
  network 203.0.113.0/24
 exit-address-family
ip route 203.0.113.0/24 Null0
"""
BIRD: Final = """\
router id 192.0.2.1;
protocol device {}
protocol kernel { ipv4 { export all; }; }
protocol static lab { ipv4; route 192.0.2.0/24 blackhole; }
protocol bgp frr {
  local as 65001;
  neighbor ${frr.address} as 65002;
  connect delay time 1; connect retry time 1; error wait time 1, 2;
  ipv4 { import all; export all; };
}
"""
DOVECOT: Final = """\
protocols = imap
listen = *, ::
ssl = no
disable_plaintext_auth = no
mail_location = maildir:~/Maildir
passdb {
  driver = static
  args = password=secret
}
userdb {
  driver = static
  args = uid=alice gid=alice home=/home/%u
}
"""
POSTFIX: Final = """\
compatibility_level = 3.6
myhostname = postfix
mydestination = postfix, localhost
mynetworks = 127.0.0.0/8 10.0.0.0/8
inet_interfaces = all
inet_protocols = ipv4
alias_maps =
alias_database =
"""
SNMPD: Final = """\
agentaddress udp:161
rocommunity public
sysLocation Sitting on the Dock of the Bay
"""
UNBOUND: Final = """\
server:
  interface: 0.0.0.0
  access-control: 10.0.0.0/8 allow
  local-data: "www.example.org. A 192.0.2.1"
"""

WITHIN_S: Final = 60.0
Probe = Callable[[Node, Node], None]


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon and what shows that it works."""

    unit: str
    program: str
    """The name of its main process; empty where its unit has none."""
    serves: Probe
    """Fails unless it answers; asked once, right after it has said that it is ready."""
    files: Mapping[str, str] = field(default_factory=dict)
    change: str = ""
    """A command that changes the configuration; empty where the unit has no reload."""
    changed: Probe | None = None
    """Fails unless the change counts."""
    replaced: bool = False
    """Whether its reload makes another process the main one."""
    stopped: str = ""
    """The units to be stopped, where it is not its own alone."""
    reset: str = ""
    """A command before it is started again."""
    node: str = ""
    """Further lines of its node's description."""

    @property
    def name(self) -> str:
        """Its node's."""
        return self.unit.partition(".")[0]


def _append(path: str, line: str) -> str:
    return f"echo '{line}' >> {path}"


def _becomes(holds: Callable[[], bool], what: str) -> None:
    """Wait for a change; a reload may be told to be done before, and refuse somebody meanwhile."""

    def does() -> bool:
        with contextlib.suppress(AssertionError):
            return holds()
        return False

    wait_until(does, what, timeout_s=WITHIN_S)


def _nginx_changed(server: Node, peer: Node) -> None:
    url = f"http://{server.name}:81/"
    _becomes(lambda: ask.get(peer, url) == "reloaded", "nginx's new server")


def _bird_changed(server: Node, peer: Node) -> None:
    show = "birdc show route protocol lab"
    _becomes(lambda: "198.51.100.0/24" in server.succeed(show), "BIRD's new route")


def _frr_changed(server: Node, peer: Node) -> None:
    show = "vtysh -c 'show ip route static'"
    _becomes(lambda: "198.51.100.0/24" in server.succeed(show), "FRR's new route")


def _snmpd_changed(server: Node, peer: Node) -> None:
    def asked() -> bool:
        return b"At sea" in udp(peer, server.name, 161, ask.SNMP_GET_LOCATION)

    _becomes(asked, "snmpd's new location")


def _unbound_changed(server: Node, peer: Node) -> None:
    def asked() -> bool:
        return ask.resolved(server, peer, b"\3new\7example\3org\0").endswith(bytes([192, 0, 2, 2]))

    _becomes(asked, "unbound's new name")


_dnsmasq_changed = _unbound_changed


def _banner(port: int, word: str) -> Probe:
    def changed(server: Node, peer: Node) -> None:
        body = f"import socket; print(socket.create_connection(({server.name!r}, {port})).recv(99))"
        _becomes(lambda: word in run(peer, body), f"{word} from port {port}")

    return changed


def _dbus_changed(server: Node, peer: Node) -> None:
    to = "--dest=org.freedesktop.DBus / org.freedesktop.DBus.ListActivatableNames"
    assert "org.example.Lab" in server.succeed(f"dbus-send --system --print-reply {to}")


DBUS_SERVICES: Final = "/usr/share/dbus-1/system-services"
DBUS_SERVICE: Final = "[D-BUS Service]\\nName=org.example.Lab\\nExec=/bin/false\\nUser=root\\n"

DAEMONS: Final[tuple[Daemon, ...]] = (
    Daemon(
        "nginx.service",
        "nginx",
        ask.nginx_answers,
        change=_append("/etc/nginx/conf.d/lab.conf", "server { listen 81; return 200 reloaded; }"),
        changed=_nginx_changed,
    ),
    Daemon(
        "bird.service",
        "bird",
        ask.bird_has_a_route_of_frr,
        {"/etc/bird/bird.conf": BIRD},
        change="sed -i 's|ipv4; route|ipv4; route 198.51.100.0/24 blackhole; route|'"
        " /etc/bird/bird.conf",
        changed=_bird_changed,
    ),
    Daemon(
        "frr.service",
        "watchfrr",
        ask.frr_has_a_route_of_bird,
        {"/etc/frr/daemons": FRR_DAEMONS, "/etc/frr/frr.conf": FRR},
        change=_append("/etc/frr/frr.conf", "ip route 198.51.100.0/24 Null0"),
        changed=_frr_changed,
        replaced=True,
        # zebra ends when it cannot have it; it would need it for VRFs.
        node="capabilities: {add: [SYS_ADMIN]}",
    ),
    Daemon(
        "lldpd.service",
        "lldpd",
        ask.lldpd_sees_its_neighbour,
        {"/etc/lldpd.d/lab.conf": "configure lldp tx-interval 1\n"},
    ),
    Daemon(
        "snmpd.service",
        "snmpd",
        ask.snmpd_answers,
        {"/etc/snmp/snmpd.conf": SNMPD},
        change="sed -i 's/Sitting.*Bay/At sea/' /etc/snmp/snmpd.conf",
        changed=_snmpd_changed,
        reset="sed -i 's/At sea/Sitting on the Dock of the Bay/' /etc/snmp/snmpd.conf",
    ),
    Daemon(
        "postfix.service",
        "",
        ask.postfix_delivers,
        {"/etc/postfix/main.cf": POSTFIX},
        change="postconf -e 'smtpd_banner = $myhostname reloaded'",
        changed=_banner(25, "reloaded"),
        node="users: [alice]",
    ),
    Daemon(
        "unbound.service",
        "unbound",
        ask.unbound_answers,
        {
            "/etc/unbound/unbound.conf.d/lab.conf": UNBOUND,
            # It names a file of a package that is only recommended.
            "/etc/unbound/unbound.conf.d/root-auto-trust-anchor-file.conf": "\n",
        },
        change=_append(
            "/etc/unbound/unbound.conf.d/lab.conf", '  local-data: "new.example.org. A 192.0.2.2"'
        ),
        changed=_unbound_changed,
    ),
    Daemon(
        "ssh.service",
        "sshd",
        ask.sshd_lets_in,
        change=_append("/etc/ssh/sshd_config.d/lab.conf", "VersionAddendum reloaded"),
        changed=_banner(22, "reloaded"),
    ),
    Daemon(
        "chrony.service",
        "chronyd",
        ask.chrony_answers,
        {
            "/etc/chrony/chrony.conf": "local stratum 7\nallow\n",
            # Nobody in a node may set the machine's clock.
            "/etc/default/chrony": 'DAEMON_OPTS="-x"\n',
        },
        # For `ConditionCapability=CAP_SYS_TIME`: the kernel asks the machine's user namespace.
        node="capabilities: {add: [SYS_TIME]}",
    ),
    Daemon("redis-server.service", "redis-server", ask.redis_answers),
    Daemon(
        "rsyslog.service",
        "rsyslogd",
        ask.rsyslog_logs,
        # It logs its own end, which would start it again.
        stopped="syslog.socket rsyslog.service",
        reset="rm /var/log/syslog",
    ),
    Daemon(
        "cron.service",
        "cron",
        ask.cron_runs_a_job,
        {"/etc/cron.d/lab": "@reboot root echo ran > /run/cron-has-run\n"},
        reset="rm /run/cron-has-run /run/crond.reboot",
    ),
    Daemon(
        "dnsmasq.service",
        "dnsmasq",
        ask.dnsmasq_answers,
        {
            "/etc/dnsmasq.d/lab.conf": "no-resolv\naddn-hosts=/etc/lab-hosts\n"
            "address=/www.example.org/192.0.2.1\n",
            "/etc/lab-hosts": "192.0.2.3 other.example.org\n",
        },
        change=_append("/etc/lab-hosts", "192.0.2.2 new.example.org"),
        changed=_dnsmasq_changed,
    ),
    Daemon(
        "dbus.service",
        "dbus-daemon",
        ask.dbus_answers,
        change=f"printf '{DBUS_SERVICE}' > {DBUS_SERVICES}/org.example.Lab.service",
        changed=_dbus_changed,
    ),
    Daemon(
        "dovecot.service",
        "dovecot",
        ask.dovecot_lets_in,
        {"/etc/dovecot/dovecot.conf": DOVECOT},
        change=_append("/etc/dovecot/dovecot.conf", "login_greeting = reloaded"),
        changed=_banner(143, "reloaded"),
        node="users: [alice]",
    ),
)

BY_SOCKET: Final = ("dovecot", "ssh")
"""Those that have a `.socket` unit of their own, which is not enabled; further nodes have it."""


def description() -> str:
    """A node for each of them, and one that asks them."""
    nodes = [_node(daemon.name, daemon, daemon.unit) for daemon in DAEMONS]
    nodes += [_node(f"{name}-socket", daemon_of(name), f"{name}.socket") for name in BY_SOCKET]
    nodes.append(_node("peer", daemon_of("lldpd"), "lldpd.service"))
    return f"segments: [wire]\nnodes:\n{''.join(nodes)}"


def daemon_of(name: str) -> Daemon:
    return next(daemon for daemon in DAEMONS if daemon.name == name)


def _node(name: str, daemon: Daemon, unit: str) -> str:
    lines = [f"  {name}:", f"    units: [{unit}]"]
    if daemon.node:
        lines.append(f"    {daemon.node}")
    if daemon.files:
        lines.append("    files:")
    for path, content in daemon.files.items():
        kind = "template" if "${" in content else "content"
        lines += [f"      {path}:", f"        {kind}: |"]
        lines += [f"          {line}" for line in content.splitlines()]
    return "\n".join(lines) + "\n"
