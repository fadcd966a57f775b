"""iptables-save's format: what is read, what is told, and that nothing is lost."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import SpecError
from hostlab.firewall.iptables_save import (
    SavedChain,
    SavedTable,
    normalised,
    parse,
    print_saved,
    quoted,
    words_of,
)

pytestmark = pytest.mark.unit

WORDS = st.text(st.sampled_from('ab1/.-!" \t\\é'), min_size=1, max_size=6)
CHAINS = st.lists(
    st.builds(
        lambda name, policy, rules: SavedChain(
            name=name, policy=policy, rules=tuple(("-j", *words) for words in rules)
        ),
        st.text("ABCd_1", min_size=1, max_size=5),
        st.sampled_from([None, "ACCEPT", "DROP"]),
        st.lists(st.lists(WORDS, max_size=4), max_size=3),
    ),
    max_size=3,
    unique_by=lambda chain: chain.name,
)
TABLES = st.lists(
    st.builds(
        lambda name, chains: SavedTable(name=name, chains=tuple(chains)),
        st.sampled_from(["filter", "nat", "mangle"]),
        CHAINS,
    ),
    max_size=2,
)


def test_counters_are_left_out_wherever_they_stand() -> None:
    counted = "*filter\n:INPUT DROP [7:8]\n[1:2] -A INPUT -c 3 4 -j ACCEPT\nCOMMIT\n"
    (table,) = parse(counted)
    rules = (("-j", "ACCEPT"),)
    assert table.chain("INPUT") == SavedChain(name="INPUT", policy="DROP", rules=rules)
    assert table.chain("SSH") is None


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("-A INPUT -j ACCEPT\n", 1, "no table has begun"),
        ("*filter\n-A INPUT -j ACCEPT\nCOMMIT\n", 2, "chain INPUT of table filter is not declared"),
        ("*filter\n*nat\n", 2, "table filter has no COMMIT"),
        ("*filter\n:INPUT DROP [0:0]\n", 3, "table filter has no COMMIT"),
        ("*filter\n:INPUT\nCOMMIT\n", 2, "a chain is declared as"),
        ('*filter\n:A - [0:0]\n-A A -m comment --comment "x\nCOMMIT\n', 3, "does not end"),
        ("*filter\n-F INPUT\nCOMMIT\n", 2, "'-F' is not read here"),
    ],
)
def test_what_cannot_be_meant_has_its_place(text: str, line: int, said: str) -> None:
    with pytest.raises(SpecError, match=said) as raised:
        parse(text, file="rules")
    assert raised.value.where is not None
    assert (raised.value.where.file, raised.value.where.line) == ("rules", line)


def test_what_says_nothing_is_not_there_and_no_order_but_that_of_rules_matters() -> None:
    one = "*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n*filter\n:B - [0:0]\n:A - [0:0]\nCOMMIT\n"
    two = "*filter\n:A - [0:0]\n:INPUT ACCEPT [1:1]\n:B - [0:0]\nCOMMIT\n"
    assert normalised(parse(one)) == normalised(parse(two))
    first = "*filter\n:A - [0:0]\n-A A -j DROP\n-A A -j ACCEPT\nCOMMIT\n"
    second = "*filter\n:A - [0:0]\n-A A -j ACCEPT\n-A A -j DROP\nCOMMIT\n"
    assert normalised(parse(first)) != normalised(parse(second))


@given(st.lists(WORDS, max_size=6))
def test_words_survive_their_quotation(words: list[str]) -> None:
    assert words_of(" ".join(map(quoted, words))) == tuple(words)


@given(TABLES)
def test_what_is_printed_is_read_again(tables: list[SavedTable]) -> None:
    assert parse(print_saved(tables)) == tuple(tables)


@given(st.text(alphabet='*:-A"\\ \nCOMMITfilter[0:0]', max_size=60))
def test_no_text_does_worse_than_an_error_with_its_place(text: str) -> None:
    with contextlib.suppress(SpecError):
        parse(text)
