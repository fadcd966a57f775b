"""What of a packet filter is ours."""

from __future__ import annotations

import pytest

from hostlab.firewall.ownership import is_foreign_rule, own_part
from hostlab.firewall.ruleset import Ruleset

pytestmark = pytest.mark.unit

PRESENT = Ruleset(
    iptables=(
        "*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -o eth0 -j MASQUERADE\nCOMMIT\n"
        "*filter\n:INPUT ACCEPT [0:0]\n:MINE - [0:0]\n:f2b-sshd - [0:0]\n"
        "-A INPUT -p tcp -j f2b-sshd\n-A INPUT -j MINE\n-A MINE -j ACCEPT\n"
        "-A f2b-sshd -j RETURN\nCOMMIT\n"
    ),
    nft="table inet a {\n}\ntable inet b {\n}\n",
    ipset="create mine hash:ip\nadd mine 192.0.2.1\ncreate theirs hash:ip\nadd theirs 192.0.2.2\n",
)
WANTED = Ruleset(
    iptables="*filter\n:INPUT DROP [0:0]\nCOMMIT\n", nft="table inet a {\n}\n",
    ipset="create mine hash:ip\n",
)  # fmt: skip


def test_before_the_first_time_the_same_table_is_ours_but_for_known_programs_chains() -> None:
    own = own_part(PRESENT, ours=None, wanted=WANTED)
    assert own.iptables == (
        "*filter\n:INPUT ACCEPT [0:0]\n:MINE - [0:0]\n-A INPUT -j MINE\n-A MINE -j ACCEPT\nCOMMIT\n"
    )
    assert own.nft == "table inet a {\n}\n"
    assert own.ipset == "create mine hash:ip\nadd mine 192.0.2.1\n"


def test_afterwards_only_what_was_applied_is_ours() -> None:
    last = Ruleset(iptables="*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j ACCEPT\nCOMMIT\n")
    own = own_part(PRESENT, ours=(last,), wanted=WANTED)
    assert own.iptables == "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n"


def test_of_a_change_that_stopped_half_way_both_may_be_there_a_rule_as_often_as_in_one() -> None:
    rule = "-A INPUT -s 192.0.2.1/32 -j ACCEPT\n"
    other = "-A INPUT -s 192.0.2.2/32 -j ACCEPT\n"
    text = "*filter\n:INPUT ACCEPT [0:0]\n{}COMMIT\n"
    ours = tuple(Ruleset(iptables=text.format(rules)) for rules in (rule, rule + other))
    present = Ruleset(iptables=text.format(rule + rule + other))
    own = own_part(present, ours=ours, wanted=ours[0])
    assert own.iptables == text.format(rule + other)


@pytest.mark.parametrize(
    ("rule", "is_foreign"),
    [
        ("-j DOCKER-USER", True),
        ("-p tcp -m multiport --dports 22 -j f2b-sshd", True),
        ("-s 172.17.0.0/16 ! -o docker0 -j MASQUERADE", True),
        ("-i virbr0 -j ACCEPT", True),
        ("-i eth0 -j DOCKS", False),
        ("-j LIBVIRT", False),
    ],
)
def test_rules_of_known_programs(rule: str, *, is_foreign: bool) -> None:
    assert is_foreign_rule(rule.split()) is is_foreign
