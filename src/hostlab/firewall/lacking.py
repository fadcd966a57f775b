"""What a kernel, or iptables, may lack of what rules name: configuration, module, first version.

A tool says only that "No such file or directory", so what a failing command names is looked up
here. Where the kernel tells its configuration, that decides; elsewhere the tool's words do. The
options are those of net/*/netfilter/Kconfig; a version is left out where it is older than 2.6.25.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple


class Feature(NamedTuple):
    """Something a rule can name."""

    option: str
    """Of the kernel's configuration, without `CONFIG_`; empty: not in the kernel's own sources."""
    since: str = ""
    gone: str = ""
    """Why, or since when, it is no longer there."""


class Lack(NamedTuple):
    """What is missing."""

    what: str
    """`target LED`, `flowtables`."""
    hint: str


_XT: Final = "NETFILTER_XT_"
MATCHES: Final[Mapping[str, Feature]] = {
    **{
        name: Feature(f"{_XT}MATCH_{name.upper()}")
        for name in (
            *("addrtype", "comment", "connbytes", "connlimit", "connmark", "conntrack", "dccp"),
            *("dscp", "esp", "hashlimit", "helper", "iprange", "length", "limit", "mac", "mark"),
            *("multiport", "owner", "physdev", "pkttype", "policy", "quota", "realm", "recent"),
            *("sctp", "state", "statistic", "string", "tcpmss", "time", "u32"),
        )
    },
    "ah": Feature("IP_NF_MATCH_AH"),
    "bpf": Feature(f"{_XT}MATCH_BPF", "3.9"),
    "cgroup": Feature(f"{_XT}MATCH_CGROUP", "3.14"),
    "cluster": Feature(f"{_XT}MATCH_CLUSTER", "2.6.30"),
    "connlabel": Feature(f"{_XT}MATCH_CONNLABEL", "3.9"),
    "cpu": Feature(f"{_XT}MATCH_CPU", "2.6.36"),
    "devgroup": Feature(f"{_XT}MATCH_DEVGROUP", "2.6.39"),
    "ecn": Feature(f"{_XT}MATCH_ECN"),
    "eui64": Feature("IP6_NF_MATCH_EUI64"),
    "frag": Feature("IP6_NF_MATCH_FRAG"),
    "hbh": Feature("IP6_NF_MATCH_OPTS"),
    "dst": Feature("IP6_NF_MATCH_OPTS"),
    "hl": Feature(f"{_XT}MATCH_HL"),
    "ttl": Feature("IP_NF_MATCH_TTL"),
    "ipcomp": Feature(f"{_XT}MATCH_IPCOMP", "3.14"),
    "ipv6header": Feature("IP6_NF_MATCH_IPV6HEADER"),
    "ipvs": Feature(f"{_XT}MATCH_IPVS", "2.6.37"),
    "l2tp": Feature(f"{_XT}MATCH_L2TP", "3.16"),
    "mh": Feature("IP6_NF_MATCH_MH"),
    "nfacct": Feature(f"{_XT}MATCH_NFACCT", "3.3"),
    "osf": Feature(f"{_XT}MATCH_OSF", "2.6.31"),
    "rateest": Feature(f"{_XT}MATCH_RATEEST"),
    "rpfilter": Feature("IP_NF_MATCH_RPFILTER", "3.3"),
    "rt": Feature("IP6_NF_MATCH_RT"),
    "set": Feature(f"{_XT}SET", "2.6.39"),
    "socket": Feature(f"{_XT}MATCH_SOCKET", "2.6.28"),
    "srh": Feature("IP6_NF_MATCH_SRH", "4.16"),
    "unclean": Feature("", gone="it left the kernel with 2.6"),
    **{
        name: Feature("", gone="it is one of xtables-addons: apt-get install xtables-addons-dkms")
        for name in (
            *("asn", "condition", "dhcpmac", "fuzzy", "geoip", "gradm", "iface", "ipp2p"),
            *("length2", "lscan", "pknock", "psd", "quota2"),
        )
    },
}
TARGETS: Final[Mapping[str, Feature]] = {
    **{
        name: Feature(f"{_XT}TARGET_{name}")
        for name in (
            *("CLASSIFY", "CONNMARK", "CONNSECMARK", "DSCP", "HL", "LOG", "MARK", "MASQUERADE"),
            *("NETMAP", "NFLOG", "NFQUEUE", "NOTRACK", "RATEEST", "REDIRECT", "SECMARK"),
            *("TCPMSS", "TCPOPTSTRIP", "TRACE"),
        )
    },
    "AUDIT": Feature(f"{_XT}TARGET_AUDIT", "2.6.39"),
    "CHECKSUM": Feature(f"{_XT}TARGET_CHECKSUM", "2.6.36"),
    "CLUSTERIP": Feature("IP_NF_TARGET_CLUSTERIP", gone="newer kernels have it no more"),
    "CT": Feature(f"{_XT}TARGET_CT", "2.6.34"),
    "DNAT": Feature(f"{_XT}NAT"),
    "DNPT": Feature("IP6_NF_TARGET_NPT", "3.7"),
    "ECN": Feature("IP_NF_TARGET_ECN"),
    "HMARK": Feature(f"{_XT}TARGET_HMARK", "3.5"),
    "IDLETIMER": Feature(f"{_XT}TARGET_IDLETIMER", "2.6.36"),
    "LED": Feature(f"{_XT}TARGET_LED", "2.6.30"),
    "REJECT": Feature("IP_NF_TARGET_REJECT"),
    "SET": Feature(f"{_XT}SET", "2.6.39"),
    "SNAT": Feature(f"{_XT}NAT"),
    "SNPT": Feature("IP6_NF_TARGET_NPT", "3.7"),
    "SYNPROXY": Feature("IP_NF_TARGET_SYNPROXY", "3.12"),
    "TEE": Feature(f"{_XT}TARGET_TEE", "2.6.35"),
    "TPROXY": Feature(f"{_XT}TARGET_TPROXY", "2.6.28"),
    "TTL": Feature("IP_NF_TARGET_TTL"),
    "ULOG": Feature("", gone="Linux 3.17 removed it; NFLOG takes its place"),
    "MIRROR": Feature("", gone="it left the kernel with 2.6"),
    **{
        name: Feature("", gone="it is one of xtables-addons: apt-get install xtables-addons-dkms")
        for name in (
            *("ACCOUNT", "CHAOS", "DELUDE", "DHCPMAC", "DNETMAP", "ECHO", "IPMARK", "LOGMARK"),
            *("PROTO", "RAWNAT", "STEAL", "SYSRQ", "TARPIT"),
        )
    },
}
SETS: Final[Mapping[str, Feature]] = {
    "bitmap:ip": Feature("IP_SET_BITMAP_IP", "2.6.39"),
    "bitmap:ip,mac": Feature("IP_SET_BITMAP_IPMAC", "2.6.39"),
    "bitmap:port": Feature("IP_SET_BITMAP_PORT", "2.6.39"),
    "hash:ip": Feature("IP_SET_HASH_IP", "2.6.39"),
    "hash:ip,mac": Feature("IP_SET_HASH_IPMAC"),
    "hash:ip,mark": Feature("IP_SET_HASH_IPMARK", "3.14"),
    "hash:ip,port": Feature("IP_SET_HASH_IPPORT", "2.6.39"),
    "hash:ip,port,ip": Feature("IP_SET_HASH_IPPORTIP", "2.6.39"),
    "hash:ip,port,net": Feature("IP_SET_HASH_IPPORTNET", "2.6.39"),
    "hash:mac": Feature("IP_SET_HASH_MAC", "3.18"),
    "hash:net": Feature("IP_SET_HASH_NET", "2.6.39"),
    "hash:net,iface": Feature("IP_SET_HASH_NETIFACE", "3.1"),
    "hash:net,net": Feature("IP_SET_HASH_NETNET", "3.13"),
    "hash:net,port": Feature("IP_SET_HASH_NETPORT", "2.6.39"),
    "hash:net,port,net": Feature("IP_SET_HASH_NETPORTNET", "3.13"),
    "list:set": Feature("IP_SET_LIST_SET", "2.6.39"),
}
NFT: Final[tuple[tuple[str, str, Feature], ...]] = (
    (r"\bflow(table|\s+(add|offload))\b", "flowtables", Feature("NF_FLOW_TABLE", "4.16")),
    (r"\bqueue\b", "statement queue", Feature("NFT_QUEUE", "3.14")),
    (r"\bsynproxy\b", "statement synproxy", Feature("NFT_SYNPROXY", "5.3")),
    (r"\btproxy\b", "statement tproxy", Feature("NFT_TPROXY", "4.19")),
    (r"\bsocket\b", "expression socket", Feature("NFT_SOCKET", "4.18")),
    (r"\bosf\b", "expression osf", Feature("NFT_OSF", "4.20")),
    (r"\btunnel\b", "tunnel objects", Feature("NFT_TUNNEL", "4.19")),
    (r"\bipsec\b", "expression ipsec", Feature("NFT_XFRM", "4.20")),
    (r"\bfib\b", "expression fib", Feature("NFT_FIB", "4.10")),
    (r"\b(jhash|symhash)\b", "expression hash", Feature("NFT_HASH", "4.9")),
    (r"\bnumgen\b", "expression numgen", Feature("NFT_NUMGEN", "4.9")),
    (r"\bquota\b", "statement quota", Feature("NFT_QUOTA", "4.9")),
    (r"\bct\s+count\b", "expression ct count", Feature("NFT_CONNLIMIT", "4.18")),
    (r"\b[io]brname\b", "meta ibrname", Feature("NFT_BRIDGE_META", "3.15")),
    (r"\breject\b", "statement reject in bridge tables", Feature("NFT_BRIDGE_REJECT", "3.18")),
    (r"\bmasquerade\b", "statement masquerade", Feature("NFT_MASQ", "3.18")),
    (r"\bredirect\b", "statement redirect", Feature("NFT_REDIR", "3.19")),
    (r"\bdup\b", "statement dup", Feature("NFT_DUP_IPV4", "4.3")),
    (r"\bfwd\b", "statement fwd", Feature("NFT_FWD_NETDEV", "4.5")),
    (r"\blog\b", "statement log", Feature("NFT_LOG", "3.13")),
    (r"\blimit\b", "statement limit", Feature("NFT_LIMIT", "3.13")),
    (r"\b[sd]nat\b", "statement nat", Feature("NFT_NAT", "3.13")),
    (r"\bct\b", "expression ct", Feature("NFT_CT", "3.13")),
    (r"\bdccp\s+option\b", "expression dccp option", Feature("NFT_EXTHDR_DCCP", "6.5")),
    (r"\btable\s+inet\b", "inet tables", Feature("NF_TABLES_INET", "3.14")),
    (r"\btable\s+bridge\b", "bridge tables", Feature("NF_TABLES_BRIDGE", "3.13")),
    (r"\btable\s+arp\b", "arp tables", Feature("NF_TABLES_ARP", "3.13")),
    (r"\btable\s+netdev\b", "netdev tables", Feature("NF_TABLES_NETDEV", "4.2")),
)
"""What nft's words name, the special before the general."""
LINKS: Final[Mapping[str, str]] = {
    "dummy": "DUMMY",
    "vlan": "VLAN_8021Q",
    "vxlan": "VXLAN",
    "bond": "BONDING",
    "ifb": "IFB",
    "gre": "NET_IPGRE",
    "gretap": "NET_IPGRE",
    "ipip": "NET_IPIP",
    "sit": "IPV6_SIT",
    "vrf": "NET_VRF",
    "wireguard": "WIREGUARD",
    "macvlan": "MACVLAN",
    "bridge": "BRIDGE",
    "netem": "NET_SCH_NETEM",
    "fq_codel": "NET_SCH_FQ_CODEL",
}

HasOption = Callable[[str], bool | None]
"""Whether this kernel was configured with an option; None where it does not tell."""

_NOT_THERE: Final = re.compile(
    r"No such file or directory|not supported|No chain/target/match by that name"
    r"|missing kernel module|Protocol wrong type|line \d+ failed|Unknown device type"
    r"|qdisc kind is unknown|No such device|argument of \"dynamic\"|Invalid argument"
)
_NAMED: Final = re.compile(r"(?:^|\s)(-m|--match|-j|--jump|-g)\s+(\S+)")
_SAID_EXTENSION: Final = re.compile(r"Extension (\S+) revision \d+ not supported")
_NO_CHAIN: Final = re.compile(r"Chain '(\S+)' does not exist")
_NO_LIBRARY: Final = re.compile(r"Couldn't load (match|target) [`'](\S+)'")


def lack_of_rule(command: str, said: str, has: HasOption) -> Lack | None:
    """What iptables' command names and this kernel, or this iptables, has not."""
    if found := _NO_LIBRARY.search(said):
        return _no_library(found[1], found[2], has)
    if (found := _NO_CHAIN.search(said)) and found[1] in TARGETS:
        return _no_library("target", found[1], has)
    if not _NOT_THERE.search(said):
        return None
    told = {found[1] for found in _SAID_EXTENSION.finditer(said)}
    for kind, table, name in _extensions(command, told):
        feature = table[name]
        there = has(feature.option) if feature.option else False
        if there is False or (there is None and name in told):
            return _lack(f"{kind} {name}", feature)
    return None


def _extensions(command: str, told: set[str]) -> Iterable[tuple[str, Mapping[str, Feature], str]]:
    named = {found[2]: found[1] for found in _NAMED.finditer(command)}
    for name in (*sorted(told), *named):
        if name in TARGETS and named.get(name) not in ("-m", "--match"):
            yield "target", TARGETS, name
        elif name in MATCHES:
            yield "match", MATCHES, name


def _no_library(kind: str, name: str, has: HasOption) -> Lack | None:
    """A name that iptables itself does not know: an extension of old or elsewhere, or a slip."""
    feature = (MATCHES if kind == "match" else TARGETS).get(name)
    if feature is None:
        return None
    if feature.option and has(feature.option):
        return Lack(f"{kind} {name}", "the kernel has it and this iptables does not: a newer one")
    return _lack(f"{kind} {name}", feature)


def lack_of_set(command: str, said: str, has: HasOption) -> Lack | None:
    """The set type of an `ipset create` that this kernel has not."""
    if "not supported" not in said:
        return None
    for word in command.split():
        if (feature := SETS.get(word)) and not has(feature.option):
            return _lack(f"set type {word}", feature)
    return None


def lack_of_nft(marked: str, said: str, has: HasOption) -> Lack | None:
    """What nft's statement names and this kernel has not; `marked` is the line it complains of."""
    if not _NOT_THERE.search(said) or "did you mean" in said:
        return None
    for pattern, what, feature in NFT:
        if re.search(pattern, marked):
            there = has(feature.option)
            if there is False or (there is None and "not supported" in said):
                return _lack(what, feature)
    return None


def lack_of_link(words: Sequence[str], said: str, has: HasOption) -> Lack | None:
    """A kind of link or queue that `ip` or `tc` names and this kernel has not."""
    if not _NOT_THERE.search(said):
        return None
    for word in words:
        option = LINKS.get(word)
        if option and has(option) is not True:
            return _lack(
                f"{word} devices" if "SCH" not in option else f"qdisc {word}", Feature(option)
            )
    return None


def _lack(what: str, feature: Feature) -> Lack:
    if not feature.option:
        return Lack(what, feature.gone)
    since = f", since Linux {feature.since}" if feature.since else ""
    gone = f"; {feature.gone}" if feature.gone else ""
    return Lack(what, f"a kernel with CONFIG_{feature.option}{since}{gone}")
