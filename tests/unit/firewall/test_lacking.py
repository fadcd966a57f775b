"""What a kernel lacks of what rules name, by the tools' own words and the kernel's options."""

from __future__ import annotations

import pytest

from hostlab.firewall import lacking

pytestmark = pytest.mark.unit

NF = "iptables v1.8.9 (nf_tables): "
APPEND = f"{NF} RULE_APPEND failed (No such file or directory): rule in chain INPUT"


def without(*options: str) -> lacking.HasOption:
    return lambda option: option not in options


def silent(option: str) -> None:
    """A kernel that does not tell its configuration."""


@pytest.mark.parametrize(
    ("command", "said", "has", "what"),
    [
        ("-A INPUT -j LED", APPEND, without("NETFILTER_XT_TARGET_LED"), "target LED"),
        ("-A INPUT -j LED", APPEND, without(), None),
        ("-A INPUT -j TARPIT", f"{NF}Chain 'TARPIT' does not exist", without(), "target TARPIT"),
        ("-A INPUT -j WEB", f"{NF}Chain 'WEB' does not exist", without(), None),
        ("-A INPUT -j LED", APPEND, silent, None),
        (
            "-A INPUT -m recent -j LED",
            f"Warning: Extension LED revision 0 not supported, missing kernel module?\n{APPEND}",
            silent,
            "target LED",
        ),
        (
            "-A INPUT -m geoip",
            f"{NF}Couldn't load match `geoip':No such file",
            without(),
            "match geoip",
        ),
        ("-A INPUT -m mulitport", f"{NF}Couldn't load match `mulitport':No", without(), None),
        ("-A INPUT -j NONE", f"{NF}Couldn't load target `NONE':No such file", without(), None),
        ("-A INPUT -j ULOG", APPEND, without(), "target ULOG"),
        ("-A INPUT -p x", f'{NF}unknown protocol "x" specified', without(), None),
    ],
)
def test_rules(command: str, said: str, has: lacking.HasOption, what: str | None) -> None:
    found = lacking.lack_of_rule(command, said, has)
    assert (found and found.what) == what
    assert found is None or found.hint


def test_versions_are_told() -> None:
    found = lacking.lack_of_rule("-j LED", APPEND, without("NETFILTER_XT_TARGET_LED"))
    assert found is not None
    assert found.hint == "a kernel with CONFIG_NETFILTER_XT_TARGET_LED, since Linux 2.6.30"


def test_sets() -> None:
    said = "ipset v7.17: Kernel error received: set type not supported"
    found = lacking.lack_of_set("ipset create m hash:mac", said, without("IP_SET_HASH_MAC"))
    assert found is not None
    assert found.what == "set type hash:mac"
    assert lacking.lack_of_set("ipset create m hash:mac", "The set exists", without()) is None


@pytest.mark.parametrize(
    ("marked", "said", "has", "what"),
    [
        ("flowtable ft {", "No such file or directory", without("NF_FLOW_TABLE"), "flowtables"),
        ("flow add @ft", "No such file or directory", without("NF_FLOW_TABLE"), "flowtables"),
        ("queue num 1", "No such file or directory", without("NFT_QUEUE"), "statement queue"),
        ('meta ibrname "x"', "Operation not supported", silent, "meta ibrname"),
        ("ip saddr @none drop", "No such file or directory; did you mean", without(), None),
        ("jump nowhere", "No such file or directory", without(), None),
    ],
)
def test_nft(marked: str, said: str, has: lacking.HasOption, what: str | None) -> None:
    found = lacking.lack_of_nft(marked, said, has)
    assert (found and found.what) == what
