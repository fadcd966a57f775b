"""Whose fault it is that a command failed, where another one failed before."""

from __future__ import annotations

import pytest

from hostlab.firewall import troubles
from hostlab.firewall.script import Ran
from hostlab.firewall.trace import Call, Texts
from hostlab.firewall.troubles import Blame

pytestmark = pytest.mark.unit

NO_TYPE = "ipset v7.17: Kernel and userspace incompatible: settype hash:net,net not supported"
RULE = "iptables -A FORWARD -m set --match-set {} src,dst -j ACCEPT"


def blames(*commands: tuple[str, str], lacks: str) -> list[Blame]:
    calls = [Call(text=t, words=tuple(t.split()), status=1, said=said) for t, said in commands]
    ran = Ran(calls=tuple(calls), status=0, texts=Texts(lambda file: None, {}))
    return [each.blame for each in troubles.of_calls(ran, lambda option: option != lacks)]


@pytest.mark.parametrize(("name", "blame"), [("pairs", Blame.KERNEL), ("other", Blame.RULESET)])
def test_a_rule_of_a_set_that_the_kernel_cannot_make(name: str, blame: Blame) -> None:
    missing = f"iptables v1.8.9 (nf_tables): Set {name} doesn't exist."
    found = blames(
        ("ipset create pairs hash:net,net", NO_TYPE),
        (RULE.format(name), missing),
        lacks="IP_SET_HASH_NETNET",
    )
    assert found == [Blame.KERNEL, blame]


def test_an_address_of_a_link_that_the_kernel_cannot_make() -> None:
    found = blames(
        ("ip link add wg0 type wireguard", "Error: Unknown device type."),
        ("ip -4 link add link eth0 name wg2 type wireguard", "Error: Unknown device type."),
        ("ip addr add 10.66.0.2/24 dev wg2", 'Cannot find device "wg2"'),
        ("ip addr add 10.66.0.1/24 dev wg0", 'Cannot find device "wg0"'),
        ("ip addr add 10.66.0.1/24 dev wg1", 'Cannot find device "wg1"'),
        lacks="WIREGUARD",
    )
    assert found == [*[Blame.KERNEL] * 4, Blame.RULESET]
