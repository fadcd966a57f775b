"""iptables' rules as nft's own, in tables of their own names, so that they can stand beside others.

The translation is iptables-restore-translate's; what it leaves as a comment is told, never left
out in silence. That the result does the same is not hoped: `meaning.py` sends packets through both.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from hostlab.firewall.kernel import Run, tool
from hostlab.firewall.ruleset import Ruleset

TRANSLATORS: Final = (
    ("iptables", "iptables-restore-translate"),
    ("ip6tables", "ip6tables-restore-translate"),
    ("legacy_iptables", "iptables-restore-translate"),
    ("legacy_ip6tables", "ip6tables-restore-translate"),
)
PREFIX: Final = "hostlab_"
"""Before iptables' names, which iptables-nft takes for its own."""
_TABLE: Final = re.compile(r"^(add (?:table|chain|rule) ip6? )(\S+)", re.MULTILINE)
_LEFT: Final = re.compile(r"^# (-A .*)$", re.MULTILINE)


class Translation(msgspec.Struct, frozen=True):
    """What became of iptables' rules."""

    ruleset: Ruleset
    """nft's text, and what was nft's already."""
    left: tuple[str, ...]
    """Rules that have no form in nft here, in iptables' words."""


def translate(ruleset: Ruleset, run: Run) -> Translation:
    """The same rules for `nft -f`; Failed where the translator refuses the whole."""
    texts = []
    left: list[str] = []
    for part, name in TRANSLATORS:
        saved = getattr(ruleset, part)
        if not saved:
            continue
        text = tool(run, (name, "-f", "/dev/stdin"), saved).stdout.decode()
        left += _LEFT.findall(text)
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        texts.append(_TABLE.sub(rf"\g<1>{PREFIX}\2", "\n".join(lines)) + "\n")
    return Translation(
        Ruleset(nft="".join((*texts, ruleset.nft)), ipset=ruleset.ipset), tuple(left)
    )
