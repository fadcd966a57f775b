"""The steps from one ruleset to another."""

from __future__ import annotations

import pytest

from hostlab.firewall.ruleset import Ruleset
from hostlab.firewall.transaction import transaction

pytestmark = pytest.mark.unit

SET = "create friends hash:ip family inet\n"


def saved(*lines: str) -> Ruleset:
    return Ruleset(iptables="".join(f"{line}\n" for line in ("*filter", *lines, "COMMIT")))


def test_what_is_as_wanted_takes_no_step() -> None:
    there = Ruleset(
        iptables="*filter\n:INPUT DROP [0:0]\n:A - [0:0]\n-A INPUT -j A\n-A A -j ACCEPT\nCOMMIT\n",
        nft="table inet a {\n}\n",
        ipset=SET + "add friends 192.0.2.1\nadd friends 192.0.2.2\n",
    )
    same = Ruleset(
        iptables=there.iptables,
        nft=there.nft,
        ipset=SET + "add friends 192.0.2.2\nadd friends 192.0.2.1\n",
    )
    assert transaction(there, there, same) == ()


def test_our_rules_stand_where_ours_stood_between_other_peoples() -> None:
    there = saved(":INPUT ACCEPT [0:0]", "-A INPUT -j f2b", "-A INPUT -j OLD", "-A INPUT -j LOG")
    own = saved(":INPUT ACCEPT [0:0]", "-A INPUT -j OLD")
    (step,) = transaction(there, own, saved(":INPUT DROP [0:0]", "-A INPUT -j NEW"))
    assert step.text.splitlines() == [
        "*filter", ":INPUT DROP [0:0]", "-F INPUT", "-A INPUT -j f2b", "-A INPUT -j NEW",
        "-A INPUT -j LOG", "COMMIT",
    ]  # fmt: skip
    assert step.argv == ("iptables-nft-restore", "--noflush")


def test_a_chain_that_goes_is_emptied_first() -> None:
    own = saved(":INPUT ACCEPT [0:0]", ":A - [0:0]", "-A INPUT -j A", "-A A -j A2")
    (step,) = transaction(own, own, Ruleset())
    assert step.text.splitlines() == ["*filter", ":A - [0:0]", "-F INPUT", "-X A", "COMMIT"]


def test_only_tables_of_nft_that_change_are_made_anew_and_what_goes_does_so_last() -> None:
    own = Ruleset(nft="table inet a {\n}\ntable inet b {\n}\n")
    wanted = Ruleset(nft="table inet a {\n}\ntable inet c {\n}\n")
    (step,) = transaction(own, own, wanted)
    assert step.text.splitlines() == [
        "add table inet c", "delete table inet c", "table inet c {", "}",
        "add table inet b", "delete table inet b",
    ]  # fmt: skip


NFT = """\
table inet a {
	map ways {
		type inet_service : verdict
		elements = { 22 : jump ssh }
	}

	chain input {
		type filter hook input priority HOOK; policy drop;
		tcp dport vmap @ways
	}

	chain ssh {
		accept
	}
}
"""


def test_a_base_chain_that_can_stay_does() -> None:
    own = Ruleset(nft=NFT.replace("HOOK", "filter"))
    wanted = Ruleset(nft=own.nft.replace("22 :", "23 :").replace("policy drop", "policy accept"))
    (step,) = transaction(own, own, wanted)
    assert step.text.removesuffix(wanted.nft).splitlines() == [
        "flush table inet a", "delete map inet a ways", "delete chain inet a ssh",
    ]  # fmt: skip
    dormant = Ruleset(nft=own.nft.replace("inet a {", "inet a {\n\tflags dormant"))
    (step,) = transaction(own, own, dormant)
    assert step.text.startswith("add table inet a\ndelete table inet a\n")


def test_sets_are_filled_beside_and_what_a_killed_one_left_goes_first() -> None:
    there = Ruleset(ipset=SET + "create hostlab-friends hash:ip family inet\ncreate old hash:ip\n")
    own = Ruleset(ipset=SET + "create old hash:ip\n")
    first, last = transaction(there, own, Ruleset(ipset=SET + "add friends 192.0.2.1\n"))
    assert first.text.splitlines() == [
        "destroy hostlab-friends",
        "create hostlab-friends hash:ip family inet",
        "add hostlab-friends 192.0.2.1",
        "swap hostlab-friends friends",
        "destroy hostlab-friends",
    ]
    assert last.text == "destroy old\n"


def test_a_long_sets_name_is_cut_beside() -> None:
    name = "n" * 31
    there = Ruleset(ipset=f"create {name} hash:ip\n")
    (step,) = transaction(there, there, Ruleset(ipset=there.ipset + f"add {name} 192.0.2.1\n"))
    assert all(len(word) <= 31 for word in step.text.split())
