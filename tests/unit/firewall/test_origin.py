"""Which line made which rule: what is replayed, and what is not told."""

from __future__ import annotations

import pytest

from hostlab.errors import Place
from hostlab.firewall import nft_file
from hostlab.firewall.listing import chains
from hostlab.firewall.nft_file import Act
from hostlab.firewall.origin import origins
from hostlab.firewall.ruleset import Ruleset
from hostlab.firewall.source import Kind, Part
from hostlab.firewall.trace import Call, Texts

pytestmark = pytest.mark.unit


def nothing(name: str, file: str) -> tuple[str, str] | None:
    return None


def lines(commands: str, ruleset: Ruleset) -> dict[str, list[int]]:
    """Chain -> the lines of its rules, after these commands ran as lines of a script."""
    calls = [
        Call(text=line, words=tuple(line.split()), place=Place("r", number, 1), status=0)
        for number, line in enumerate(commands.strip().split("\n"), 1)
    ]
    found = origins(
        calls, chains(ruleset), Texts(lambda _: None, {}), iptables_is_legacy=False, read=nothing
    )
    told: dict[str, list[int]] = {}
    for each in found:
        told.setdefault(each.chain, []).append(each.place.line)
    return told


def filter_of(*rules: str) -> Ruleset:
    head = "*filter\n:INPUT ACCEPT [0:0]\n:X - [0:0]\n"
    return Ruleset(iptables=head + "".join(f"-A {rule}\n" for rule in rules) + "COMMIT\n")


def test_appended_inserted_deleted_replaced() -> None:
    commands = """
iptables -A INPUT -p tcp -j ACCEPT
iptables -A INPUT -p udp -j ACCEPT
iptables -I INPUT -i lo -j ACCEPT
iptables -t filter -I INPUT 3 -j X
iptables -D INPUT 2
iptables -A INPUT -p icmp -j DROP
iptables -D INPUT -p icmp -j DROP
iptables -R INPUT 1 -i lo -j X
"""
    held = filter_of("INPUT -i lo -j X", "INPUT -j X", "INPUT -p udp -j ACCEPT")
    assert lines(commands, held) == {"INPUT": [8, 4, 2]}


def test_listed_addresses_make_a_rule_each() -> None:
    held = filter_of(
        *(f"INPUT -s {a}/32 -d {b}/32 -j DROP" for a in "12" for b in "34"), "INPUT -j X"
    )
    assert lines("iptables -A INPUT -s 1,2 -d 3,4 -j DROP\niptables -A INPUT -j X", held) == {
        "INPUT": [1, 1, 1, 1, 2]
    }


def test_flushed_and_renamed() -> None:
    commands = "iptables -A INPUT -j X\niptables -F\niptables -A Y -j DROP\niptables -E Y X"
    assert lines(commands, filter_of("X -j DROP")) == {"X": [3]}


def test_what_does_not_agree_is_not_told() -> None:
    commands = "iptables -A INPUT -p tcp -j ACCEPT\niptables -A X -j DROP"
    assert lines(commands, filter_of("INPUT -p udp -j ACCEPT", "X -j DROP")) == {"X": [2]}
    assert lines(commands, filter_of("INPUT -p tcp -j ACCEPT", "X -j DROP", "X -j DROP")) == {
        "INPUT": [1]
    }
    assert lines("iptables -D INPUT -j X\n" + commands, filter_of("INPUT -p tcp -j ACCEPT")) == {}
    assert lines("iptables-restore\n" + commands, filter_of("X -j DROP")) == {}


def test_a_dumps_lines() -> None:
    text = "*filter\n:X - [0:0]\n[1:2] -A X -j DROP\n-A X -j ACCEPT\nCOMMIT\n"
    part = Part(kind=Kind.DUMP, path="dump", text=text, first_line=11)
    place = Place("dump", 11, 1)
    call = Call(text="", words=("iptables-restore",), place=place, status=0, part=part)
    held = chains(filter_of("X -j DROP", "X -j ACCEPT"))
    texts = Texts(lambda _: None, {})
    found = origins([call], held, texts, iptables_is_legacy=False, read=nothing)
    assert [each.place.line for each in found] == [13, 14]


@pytest.mark.parametrize(
    "line",
    [
        "-A INPUT -s 10.0.0.1/32 -j DROP",
        "-A INPUT  -s 10.0.0.1/32\t-j DROP",
        "-A INPUT ! -i lo -j DROP",
        "-A INPUT -s 10.0.0.1,10.0.0.2 -j DROP",
        "-A INPUT -j DROP -t nat",
        "-A INPUT -t nat -j DROP",
        "-A INPUT --table=nat -j DROP",
        "-A INPUT --table nat -j DROP",
        "-A INPUT -c 3 4 -j DROP",
        "-A INPUT -w 5 -j DROP",
        "-A INPUT --wait",
        "-A INPUT 1 -j DROP",
        '-A INPUT -m comment --comment "-t nat" -j DROP',
        "-A INPUT",
    ],
)
def test_a_dumps_plain_line_is_followed_as_one_with_counters_is(line: str) -> None:
    """Such a line is not taken apart, unless it has what is no part of its rule."""
    held = chains(
        filter_of("INPUT -j ACCEPT", "INPUT -s 10.0.0.1/32 -j DROP", "INPUT -s 10.0.0.2/32 -j DROP")
    ) + chains(filter_of("INPUT -j ACCEPT", "INPUT -s 10.0.0.1/32 -j DROP"))

    def places(shown: str) -> list[tuple[str, int, int]]:
        text = f"*filter\n-A INPUT -j ACCEPT\n{shown}\n*nat\nCOMMIT\n"
        part = Part(kind=Kind.DUMP, path="dump", text=text)
        call = Call(
            text="",
            words=("iptables-restore",),
            place=Place("dump", 1, 1),
            status=0,
            part=part,
        )
        texts = Texts(lambda _: None, {})
        found = origins([call], held, texts, iptables_is_legacy=False, read=nothing)
        return [(each.chain, each.number, each.place.line) for each in found]

    assert places(line) == places(f"[1:2] {line}")


NFT = """\
#!/usr/sbin/nft -f
define ports = { 22,
  80 }
flush ruleset
table inet f {
  set s { type ipv4_addr; elements = { 10.0.0.1,
     10.0.0.2 } }
  chain in { type filter hook input priority 0; policy drop;
    tcp dport { 22,
      80 } accept # why
    tcp dport 443 accept; udp dport 53 accept
    ip saddr @s \\
      drop comment "{ odd"
  }
}
add rule inet f in counter
insert rule inet f in iif lo accept
add chain inet f other { type filter hook output priority 0; }
delete rule inet f other handle 3
include "more.nft"
"""


def test_an_nft_files_statements() -> None:
    def read(name: str, file: str) -> tuple[str, str] | None:
        assert (name, file) == ("more.nft", "rules.nft")
        return "more.nft", "table ip g { chain c {\nreject\n} }\n"

    found = [
        (each.act, each.chain, each.file, each.line)
        for each in nft_file.statements(NFT, file="rules.nft", read=read)
    ]
    assert found == [
        (Act.CLEAR, "", "", 0),
        (Act.APPEND, "in", "rules.nft", 9),
        (Act.APPEND, "in", "rules.nft", 11),
        (Act.APPEND, "in", "rules.nft", 11),
        (Act.APPEND, "in", "rules.nft", 12),
        (Act.APPEND, "in", "rules.nft", 16),
        (Act.INSERT, "in", "rules.nft", 17),
        (Act.UNKNOWN, "other", "", 0),
        (Act.APPEND, "c", "more.nft", 2),
    ]


def test_nft_commands_of_a_script() -> None:
    nft = "table inet f {\n\tchain c {\n\t\taccept\n\t\tdrop\n\t}\n}\n"
    commands = "nft add table inet f\nnft add rule inet f c drop\nnft insert rule inet f c accept"
    assert lines(commands, Ruleset(nft=nft)) == {"c": [3, 2]}
    assert lines("nft -f /nowhere\n" + commands, Ruleset(nft=nft)) == {}
