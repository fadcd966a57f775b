"""What a firewall calls by name: services with their protocols and ports.

The names are /etc/services' and IANA's where these have one. The list is here, and not read from
the machine, so that a description means the same everywhere.
"""

from __future__ import annotations

import re
from typing import Final

from hostlab.spec.firewall import Service
from hostlab.spec.source import Wrong, quoted
from hostlab.spec.units import port

ANY: Final = "any"
_RANGE: Final = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp))?")
_TABLE: Final = """
    bgp 179/tcp
    dhcp 67/udp
    dhcpv6 547/udp
    dns 53/udp 53/tcp
    ftp 21/tcp
    http 80/tcp
    https 443/tcp
    ike 500/udp 4500/udp
    imap 143/tcp
    imaps 993/tcp
    ipp 631/tcp
    kerberos 88/tcp 88/udp
    ldap 389/tcp
    ldaps 636/tcp
    mdns 5353/udp
    mqtt 1883/tcp
    mysql 3306/tcp
    nfs 2049/tcp
    ntp 123/udp
    pop3 110/tcp
    pop3s 995/tcp
    postgresql 5432/tcp
    prometheus 9090/tcp
    quic 443/udp
    rdp 3389/tcp
    redis 6379/tcp
    rsync 873/tcp
    samba 445/tcp 139/tcp 137/udp 138/udp
    sip 5060/udp 5060/tcp
    smtp 25/tcp
    smtps 465/tcp
    snmp 161/udp
    snmp-trap 162/udp
    ssh 22/tcp
    submission 587/tcp
    syslog 514/udp
    telnet 23/tcp
    tftp 69/udp
    vnc 5900/tcp
    vxlan 4789/udp
    whois 43/tcp
    wireguard 51820/udp
    xmpp 5222/tcp
"""
_PROTOCOLS: Final = {
    "ah": "51",
    "esp": "50",
    "gre": "47",
    "icmp": "icmp",
    "icmpv6": "icmpv6",
    "igmp": "2",
    "ospf": "89",
    "ping": "ping",
    "sctp": "132",
    "tcp": "tcp",
    "udp": "udp",
    "vrrp": "112",
}
"""Name -> protocol as nft takes it: by IANA's number where the name is /etc/protocols' to know."""


def _ports(word: str) -> Service:
    found = _RANGE.fullmatch(word)
    if found is None:
        raise Wrong(f"{quoted(word)} is no service")
    first = port(found[1])
    last = port(found[2]) if found[2] else first
    if last < first:
        raise Wrong(f"{quoted(word)} counts downwards", f"write `{last}-{first}`")
    return Service(protocol=found[3] or "tcp", first=first, last=last)


SERVICES: Final = {
    **{
        name: tuple(map(_ports, listed))
        for name, *listed in (line.split() for line in _TABLE.strip().splitlines())
    },
    **{name: (Service(protocol=protocol),) for name, protocol in _PROTOCOLS.items()},
    ANY: (),
}
"""Name -> what it is; empty: any packet."""


def service(word: str) -> tuple[str, tuple[Service, ...]]:
    """`ssh`, `8080`, `53/udp`, `6000-6010/tcp`: the word, and what it stands for."""
    if word in SERVICES:
        return word, SERVICES[word]
    if word[:1].isdigit():
        return word, (_ports(word),)
    raise Wrong(f"{quoted(word)} is no service that is known here")
