"""What a kernel's packet filter holds, as the tools of its parts print it; pure values.

nf_tables has two kinds of tables: those of nft, and those that iptables-nft keeps as its own (`ip`
and `ip6`, named filter, nat, mangle, raw, security), which only iptables-save prints whole. Legacy
iptables are another place in the kernel. So a ruleset is six texts, each in the format that loads
it again in one transaction.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec


class Family(StrEnum):
    """The packets of a table, in nft's words."""

    IPV4 = "ip"
    IPV6 = "ip6"
    INET = "inet"
    ARP = "arp"
    BRIDGE = "bridge"
    NETDEV = "netdev"


IPTABLES_TABLES: Final = ("filter", "nat", "mangle", "raw", "security")
"""Tables of iptables(8), in the order in which iptables-save of Debian 12 is read here."""


class Ruleset(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A packet filter; an empty text is an empty part, and no policy but ACCEPT."""

    nft: str = ""
    """nft's own tables, as `nft -f` takes them."""
    iptables: str = ""
    """IPv4 tables of iptables-nft, as `iptables-nft-restore` takes them."""
    ip6tables: str = ""
    """IPv6 tables of iptables-nft, as `ip6tables-nft-restore` takes them."""
    legacy_iptables: str = ""
    """IPv4 tables of legacy iptables, as `iptables-legacy-restore` takes them."""
    legacy_ip6tables: str = ""
    """IPv6 tables of legacy iptables, as `ip6tables-legacy-restore` takes them."""
    ipset: str = ""
    """Sets, as `ipset restore` takes them; the rules of iptables name them."""

    def __bool__(self) -> bool:
        """Whether it holds anything at all."""
        return any(getattr(self, name) for name in self.__struct_fields__)
