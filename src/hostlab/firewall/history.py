"""What was applied and confirmed on this machine, and what is loaded when it boots."""

from __future__ import annotations

import os
import re
import time
from typing import Final

import msgspec

from hostlab import typed
from hostlab.errors import Failed, UsageError
from hostlab.firewall.beside import Kind, Operation
from hostlab.firewall.change import FirewallChange
from hostlab.firewall.ruleset import Ruleset
from hostlab.firewall.transaction import nft_transaction
from hostlab.linux.whole_files import write_whole

VARIABLE: Final = "HOSTLAB_STATE"
"""Environment variable that names another directory than /var/lib/hostlab."""
MAX_ENTRIES: Final = 100
"""Older ones are removed."""
NFT_FILE: Final = "/etc/nftables.conf"
"""Loaded by Debian's nftables.service."""
_NFT_HEADER: Final = "#!/usr/sbin/nft -f\n# Written by hostlab firewall persist.\n"
IPTABLES_FILES: Final = {
    "/etc/iptables/rules.v4": ("iptables", "legacy_iptables"),
    "/etc/iptables/rules.v6": ("ip6tables", "legacy_ip6tables"),
    "/etc/iptables/ipsets": ("ipset",),
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
    operations: tuple[Operation, ...] = ()
    """What was done beside rules, in order, each with its way back."""
    began: float = 0.0
    """When the change was begun: with its boot, what it is told from another by."""
    boot: str = ""


def directory() -> str:
    """Where they are kept; it outlives a boot."""
    return f"{os.environ.get(VARIABLE, '/var/lib/hostlab')}/firewall"


def entries() -> list[Entry]:
    """All of them, oldest first."""
    found = []
    for number in _numbers():
        with open(f"{directory()}/{number}.json", "rb") as file:
            found.append(typed.decode(file.read(), Entry))
    return found


def entry(number: int) -> Entry:
    """One of them; UsageError with those that there are."""
    found = {each.number: each for each in entries()}
    if number not in found:
        numbers = ", ".join(map(str, found)) or "none"
        raise UsageError("history", f"there is no change {number}", hint=f"there are: {numbers}")
    return found[number]


def undoing(number: int) -> tuple[Operation, ...]:
    """What takes back what was done beside rules by change `number` and those behind it.

    The last first; of several of the same thing the one that decides.
    """
    found: dict[object, Operation] = {}
    for each in reversed(entries()):
        if each.number < number:
            continue
        for done in reversed(each.operations):
            if done.undo:
                key = done.subject if done.kind is Kind.SYSCTL else frozenset((done.do, done.undo))
                found.pop((done.kind, key), None)
                found[done.kind, key] = msgspec.structs.replace(done, do=done.undo, undo=done.do)
    return tuple(found.values())


def note(change: FirewallChange) -> Entry:
    """Write a confirmed change down, unless that was done. To be called with the kernel's lock."""
    os.makedirs(directory(), mode=0o700, exist_ok=True)
    numbers = _numbers()
    last = entry(numbers[-1]) if numbers else None
    if last is not None and (last.boot, last.began) == (change.boot, change.began):
        return last
    made = Entry(
        number=numbers[-1] + 1 if numbers else 1,
        at=time.time(),
        who=change.maker.user,
        source=change.source,
        before=change.before,
        ruleset=change.wanted,
        operations=change.operations,
        began=change.began,
        boot=change.boot,
    )
    write_whole(
        f"{directory()}/{made.number}.json", msgspec.json.encode(made), mode=0o600, is_synced=True
    )
    for old in numbers[: -(MAX_ENTRIES - 1)]:
        os.unlink(f"{directory()}/{old}.json")
    return made


def persist(ruleset: Ruleset) -> list[str]:
    """Write what Debian's services load at boot; the files that were written.

    nft's tables go to nftables.conf without its `flush ruleset`, so other people's stay. A file of
    a part that is empty now is emptied, or the boot would bring old rules back; but nftables.conf
    only where it was written here.
    """
    written = []
    if ruleset.nft or _is_ours(NFT_FILE):
        text = _NFT_HEADER + nft_transaction(Ruleset(), ruleset)
        write_whole(NFT_FILE, text.encode(), mode=0o755, is_synced=True)
        written.append(NFT_FILE)
    for path, parts in IPTABLES_FILES.items():
        texts = [text for part in parts if (text := getattr(ruleset, part))]
        if len(texts) > 1:
            raise Failed(
                "persist",
                f"{path} is loaded by one iptables: there are rules of both, {', '.join(parts)}",
                hint="use one of them for all rules",
            )
        if texts or os.path.exists(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            write_whole(path, "".join(texts).encode(), mode=0o640, is_synced=True)
            written.append(path)
    return written


def _is_ours(path: str) -> bool:
    try:
        with open(path) as file:
            return file.read(len(_NFT_HEADER)) == _NFT_HEADER
    except FileNotFoundError:
        return False


def _numbers() -> list[int]:
    try:
        names = os.listdir(directory())
    except FileNotFoundError:
        return []
    return sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)))
