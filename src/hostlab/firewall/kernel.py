"""Reading and loading a packet filter with its own tools, wherever they can be run.

`nft`, `iptables-save` and `-restore` and `ipset` are the only ones that know every match of their
kernel; so they do it, here in a node's network namespace and there on the live machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from hostlab.errors import Failed
from hostlab.firewall import witnesses
from hostlab.firewall.ruleset import IPTABLES_TABLES, Ruleset
from hostlab.lab.access import Completed
from hostlab.plan.nft_text import nft_tables

TOOL_TIMEOUT_S: Final = 600.0
RESTORERS: Final = (
    ("iptables", "iptables-nft-restore"),
    ("ip6tables", "ip6tables-nft-restore"),
    ("legacy_iptables", "iptables-legacy-restore"),
    ("legacy_ip6tables", "ip6tables-legacy-restore"),
)
"""A field of `Ruleset` -> the tool that loads it."""
SAVERS: Final = tuple((field, tool.replace("restore", "save")) for field, tool in RESTORERS)
_TABLE: Final = re.compile(r"^table (\S+) (\S+)$", re.MULTILINE)
_COMMENT: Final = re.compile(r"^#.*\n", re.MULTILINE)


class Run(Protocol):
    """Runs a tool in the network namespace in question: a node's `execute`, or the machine's."""

    def __call__(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float | None = None
    ) -> Completed:
        """The tool's end; OSError where it cannot be started."""


class Tables(NamedTuple):
    """What there is to be read."""

    nft: Sequence[tuple[str, str]]
    """Family and name of each table of nf_tables."""
    legacy: frozenset[str]
    """The families in which legacy iptables has tables: ip, ip6."""


def read(run: Run, tables_there: Callable[[], Tables] | None = None) -> Ruleset:
    """What the kernel holds now; Failed with the tool's own words.

    Only tables that are there are asked for, and nft is not asked to print those of iptables.
    `tables_there` spares asking nft for them, which takes it as long as a whole listing, and legacy
    iptables where it has none.
    """
    there = tables_there() if tables_there is not None else _listed_tables(run)
    tables = there.nft
    saved = {field: _saved(run, name) for field, name in SAVERS if _may_hold(field, there)}
    own = {("ip", name) for name in _tables(saved.get("iptables", ""))}
    own |= {("ip6", name) for name in _tables(saved.get("ip6tables", ""))}
    own |= {(family, witnesses.TABLE) for family in ("inet", "netdev")}
    others = [key for key in tables if key not in own]
    if len(others) == len(tables) > 1:
        nft = _text(tool(run, ("nft", "-s", "list", "ruleset")))
    else:
        nft = "".join(_listed(run, *key) for key in others)
    nft = "".join(text for _, text in nft_tables(nft))
    ipset = _text(tool(run, ("ipset", "save")))
    return Ruleset(nft=nft, ipset=ipset, **saved)


def _listed(run: Run, family: str, name: str) -> str:
    """One table's text; of one whose name `nft list` takes for a word of its own, out of all."""
    done = run(("nft", "-s", "list", "table", family, name), timeout_s=TOOL_TIMEOUT_S)
    if not done.status:
        return _text(done)
    everything = _text(tool(run, ("nft", "-s", "list", "ruleset")))
    return "".join(text for key, text in nft_tables(everything) if key == (family, name))


def _listed_tables(run: Run) -> Tables:
    listed = _text(tool(run, ("nft", "list", "tables")))
    found = [(each[1], each[2]) for each in _TABLE.finditer(listed)]
    return Tables(found, frozenset(("ip", "ip6")))


def _may_hold(field: str, there: Tables) -> bool:
    family = "ip6" if "6" in field else "ip"
    if "legacy" in field:
        return family in there.legacy
    return any(each == family and name in IPTABLES_TABLES for each, name in there.nft)


def load(run: Run, ruleset: Ruleset) -> None:
    """Put a ruleset beside what is there; Failed with the tool's own words.

    Each part is one transaction. Sets go first, for rules name them.
    """
    if ruleset.ipset:
        tool(run, ("ipset", "restore"), ruleset.ipset)
    for field, name in RESTORERS:
        if text := getattr(ruleset, field):
            tool(run, (name,), text)
    if ruleset.nft:
        tool(run, ("nft", "-f", "-"), ruleset.nft)


def tool(run: Run, argv: Sequence[str], stdin: str = "") -> Completed:
    """Run one that must succeed."""
    done = run(argv, stdin=stdin.encode(), timeout_s=TOOL_TIMEOUT_S)
    if done.status:
        said = done.stderr.decode(errors="replace").strip()
        raise Failed("ruleset", f"{argv[0]}: {said}")
    return done


def _text(done: Completed) -> str:
    """What a tool printed; Failed where that is no text, as a comment in Latin-1 is none."""
    try:
        return done.stdout.decode()
    except UnicodeDecodeError as error:
        start = done.stdout.rfind(b"\n", 0, error.start) + 1
        line = done.stdout[start:].split(b"\n", 1)[0].decode(errors="replace")
        message = f"a rule that is no UTF-8 cannot be kept: {line.strip()}"
        raise Failed("ruleset", message, hint="write its comment in UTF-8") from None


def _saved(run: Run, name: str) -> str:
    """iptables-save's output without its comments, which have the time in them."""
    return _COMMENT.sub("", _text(tool(run, (name,))))


def _tables(saved: str) -> list[str]:
    return [name for name in IPTABLES_TABLES if f"*{name}\n" in saved]
