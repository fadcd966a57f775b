"""What was applied and confirmed on this machine, and what is loaded when it boots."""

from __future__ import annotations

import os
import re
import time
from typing import Final

import msgspec

from hostlab.errors import UsageError
from hostlab.firewall.change import FirewallChange, write_whole
from hostlab.firewall.ruleset import Ruleset

VARIABLE: Final = "HOSTLAB_STATE"
"""Environment variable that names another directory than /var/lib/hostlab."""
MAX_ENTRIES: Final = 100
"""Older ones are removed."""
NFT_FILE: Final = "/etc/nftables.conf"
"""Loaded by Debian's nftables.service."""
IPTABLES_FILES: Final = {
    "iptables": "/etc/iptables/rules.v4",
    "ip6tables": "/etc/iptables/rules.v6",
    "ipset": "/etc/iptables/ipsets",
}
"""Loaded by Debian's netfilter-persistent, with iptables-persistent and ipset-persistent."""
_NAME: Final = re.compile(r"(\d+)\.json")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A confirmed change."""

    number: int
    at: float
    """Seconds since the epoch."""
    who: str
    source: str
    before: Ruleset
    ruleset: Ruleset


def directory() -> str:
    """Where they are kept; it outlives a boot."""
    return f"{os.environ.get(VARIABLE, '/var/lib/hostlab')}/firewall"


def entries() -> list[Entry]:
    """All of them, oldest first."""
    found = []
    for number in _numbers():
        with open(f"{directory()}/{number}.json", "rb") as file:
            found.append(msgspec.json.decode(file.read(), type=Entry))
    return found


def entry(number: int) -> Entry:
    """One of them; UsageError with those that there are."""
    found = {each.number: each for each in entries()}
    if number not in found:
        numbers = ", ".join(map(str, found)) or "none"
        raise UsageError("history", f"there is no change {number}", hint=f"there are: {numbers}")
    return found[number]


def note(change: FirewallChange) -> Entry:
    """Write a confirmed change down."""
    os.makedirs(directory(), mode=0o700, exist_ok=True)
    numbers = _numbers()
    made = Entry(
        number=numbers[-1] + 1 if numbers else 1,
        at=time.time(),
        who=change.maker.user,
        source=change.source,
        before=change.before,
        ruleset=change.wanted,
    )
    write_whole(f"{directory()}/{made.number}.json", msgspec.json.encode(made))
    for old in numbers[: -(MAX_ENTRIES - 1)]:
        os.unlink(f"{directory()}/{old}.json")
    return made


def persist(ruleset: Ruleset) -> list[str]:
    """Write what Debian's services load at boot; the files that were written.

    nft's tables go to nftables.conf without its `flush ruleset`, so other people's stay.
    """
    written = []
    if ruleset.nft:
        from hostlab.firewall.transaction import nft_transaction

        text = "#!/usr/sbin/nft -f\n" + nft_transaction(Ruleset(), ruleset)
        write_whole(NFT_FILE, text.encode(), mode=0o755)
        written.append(NFT_FILE)
    for part, path in IPTABLES_FILES.items():
        if text := getattr(ruleset, part):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            write_whole(path, text.encode(), mode=0o640)
            written.append(path)
    return written


def _numbers() -> list[int]:
    try:
        names = os.listdir(directory())
    except FileNotFoundError:
        return []
    return sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)))
