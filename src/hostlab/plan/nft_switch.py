"""One table of nft's in the place of another: what to say around its text; pure.

Rules, chains and sets of a batch come and go at one instant. Base chains do not: the hook of one
that is deleted is gone before, and the policy of a new one is accept until the kernel comes to it
behind that instant (nf_tables_api.c, nft_chain_commit_drop_policy). Where a table is deleted and
made anew, a packet that both drop by default came in between. So a base chain is kept and filled
anew where that can be, and one that goes does so at the end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from hostlab.plan.nft_text import NftTable

_PRIORITIES: Final = {
    "raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100,
}  # fmt: skip
_HEAD: Final = re.compile(
    r"(type \S+ hook .*?)priority ([a-z]*) ?(?:([+-]?) ?(\d+))?;(?: policy (\w+);)?"
)


class Around(NamedTuple):
    """Lines for `nft -f`."""

    before: tuple[str, ...]
    behind: tuple[str, ...] = ()


class _Base(NamedTuple):
    """What of a base chain can be changed, the policy, and what cannot."""

    hook: str
    policy: str


def anew(family: str, name: str) -> tuple[str, ...]:
    """Take a table away, whether it is there or not."""
    return f"add table {family} {name}", f"delete table {family} {name}"


def around(old: NftTable, new: Mapping[str, str]) -> Around:
    """What makes of `old` the table whose text stands between.

    `new` are its chains: of a base chain `type … hook … priority …;`, with its policy where one is
    said, of others nothing.
    """
    table = f"{old.family} {old.name}"
    first, last = [], []
    for each in old.objects:
        gone = f"delete {each.kind} {table} {each.name}"
        before = _base(each.head[0]) if each.kind == "chain" and each.head else None
        if before is None:
            first.append((each.kind, gone))
        elif each.name not in new:
            last.append(gone)
        elif len(each.head) > 1 or not _can_stay(before, _base(new[each.name])):
            first.append((each.kind, gone))
    # Maps name chains and counters; nothing else names anything but rules, which are gone first.
    first.sort(key=lambda each: each[0] not in ("map", "set"))
    return Around((f"flush table {table}", *(gone for _, gone in first)), tuple(last))


def _base(head: str) -> _Base | None:
    """None for what is no base chain."""
    found = _HEAD.match(" ".join(head.split()))
    if found is None:
        return None
    hook, word, sign, digits, policy = found.groups()
    priority = _PRIORITIES.get(word, 0) + int(f"{sign or ''}{digits or 0}")
    return _Base(f"{hook}{priority}", policy or "")


def _can_stay(before: _Base, after: _Base | None) -> bool:
    """A chain that is said to have no policy has accept when it is made, else the one it had."""
    if after is None or before.hook != after.hook:
        return False
    return bool(after.policy) or before.policy in ("", "accept")
