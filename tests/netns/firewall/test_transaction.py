"""From one ruleset to another in a kernel in which other people have rules, too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hostlab.errors import Failed
from hostlab.firewall import kernel
from hostlab.firewall.difference import text_difference
from hostlab.firewall.ownership import own_part
from hostlab.firewall.ruleset import Ruleset
from hostlab.firewall.stage import Stage, StageNode
from hostlab.firewall.target import Target, TargetInterface
from hostlab.firewall.transaction import transaction
from tests.netns.lab.lab_site import probe

pytestmark = pytest.mark.netns

FLUSH = (
    "nft flush ruleset; for t in filter nat; do for i in iptables-legacy ip6tables-legacy; do"
    " $i -t $t -F; $i -t $t -X; $i -t $t -P OUTPUT ACCEPT; done; done; ipset destroy"
)
DOCKER = """\
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
:f2b-sshd - [0:0]
-A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd
-A INPUT -p tcp -m tcp --dport 25 -j ACCEPT
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -j DOCKER
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-USER -j RETURN
-A f2b-sshd -s 192.0.2.66/32 -j REJECT --reject-with icmp-port-unreachable
-A f2b-sshd -j RETURN
COMMIT
"""
TABLE_OF_OTHERS = "table inet f2b-table {\n\tset addr-set {\n\t\ttype ipv4_addr\n\t}\n}\n"
NEW = Ruleset(
    iptables=(
        "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:SSH - [0:0]\n"
        "-A INPUT -i lo -j ACCEPT\n-A INPUT -p tcp -m tcp --dport 22 -j SSH\n"
        "-A INPUT -m set --match-set friends src -j ACCEPT\n"
        "-A SSH -s 198.51.100.0/24 -j ACCEPT\nCOMMIT\n"
    ),
    ip6tables="*filter\n:INPUT DROP [0:0]\n-A INPUT -i lo -j ACCEPT\nCOMMIT\n",
    nft="table inet mine {\n\tchain input {\n\t\ttcp dport 80 accept\n\t}\n}\n",
    ipset=(
        "create friends hash:ip family inet hashsize 1024 maxelem 65536 bucketsize 12\n"
        "add friends 198.51.100.9\n"
    ),
)
NEXT = Ruleset(
    iptables="*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp -m tcp --dport 443 -j ACCEPT\nCOMMIT\n",
    nft="table inet other {\n\tchain input {\n\t\ttcp dport 81 accept\n\t}\n}\n",
)
OTHERS = (
    "-A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd\n",
    "-A FORWARD -j DOCKER-USER\n-A FORWARD -o docker0 -j DOCKER\n",
    "-A f2b-sshd -s 192.0.2.66/32 -j REJECT --reject-with icmp-port-unreachable\n",
    "-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT\n",
)


@pytest.fixture(scope="module")
def stage() -> Iterator[StageNode]:
    probe()
    with Stage(TARGET) as found:
        # Its supervisor starts with the first connection, and is no leak of the first test.
        found.nodes["stage"].shell("true")
        yield found.nodes["stage"]


TARGET = Target(interfaces=(TargetInterface(name="eth0", addresses=("192.0.2.1/24",)),))


@pytest.fixture
def node(stage: StageNode) -> Iterator[StageNode]:
    yield stage
    stage.shell(FLUSH)


def change(node: StageNode, ours: Ruleset | None, wanted: Ruleset) -> Ruleset:
    """Carry out a transaction; what is ours afterwards, which is what was wanted."""
    present = node.read()
    own = own_part(present, ours=None if ours is None else (ours,), wanted=wanted)
    for step in transaction(present, own, wanted):
        kernel.tool(node.execute, step.argv, step.text)
    found = own_part(node.read(), ours=(wanted,), wanted=wanted)
    assert text_difference(found, wanted) == ()
    return own


def test_other_peoples_chains_tables_and_rules_stay_as_they_are(node: StageNode) -> None:
    node.load(Ruleset(iptables=DOCKER, nft=TABLE_OF_OTHERS))
    before = node.read()
    own = change(node, None, NEW)
    assert "--dport 25" in own.iptables
    applied = node.read()
    assert all(rule in applied.iptables for rule in OTHERS)
    assert "--dport 25" not in applied.iptables
    assert TABLE_OF_OTHERS in applied.nft
    assert "*nat" in own.iptables or "DNAT" in applied.iptables
    change(node, NEW, NEXT)
    now = node.read()
    assert all(rule in now.iptables for rule in OTHERS)
    assert "SSH" not in now.iptables
    assert "friends" not in now.ipset
    assert "inet mine" not in now.nft
    change(node, NEXT, own)
    assert text_difference(before, node.read()) == ()


def test_what_is_there_already_is_left_alone(node: StageNode) -> None:
    change(node, None, NEW)
    present = node.read()
    own = own_part(present, ours=(NEW,), wanted=NEW)
    parts = [step.part for step in transaction(present, own, NEW)]
    assert "ip6tables" not in parts


def test_a_refused_transaction_leaves_the_old_rules_whole(node: StageNode) -> None:
    change(node, None, NEW)
    before = node.read()
    bad = Ruleset(iptables="*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j NOWHERE\nCOMMIT\n")
    with pytest.raises(Failed, match="NOWHERE"):
        change(node, NEW, bad)
    assert text_difference(before, node.read()) == ()


def test_a_chain_may_become_another(node: StageNode) -> None:
    """A hook, a priority, a policy that changes; a chain that comes, goes, or has one no more."""
    base = "\t\ttype filter hook {} priority filter{}; policy {};\n\t\ttcp dport 22 accept\n"
    bodies = [
        base.format("input", "", "drop"),
        base.format("input", "", "accept"),
        base.format("input", " + 10", "drop"),
        base.format("forward", "", "drop"),
        "\t\ttcp dport 22 accept\n",
        None,
    ]
    tables = [
        Ruleset(
            nft="table inet mine {\n"
            + (f"\tchain c {{\n{body}\t}}\n\n" if body is not None else "")
            + "\tchain last {\n\t\taccept\n\t}\n}\n"
        )
        for body in bodies
    ]
    first, *others = tables
    change(node, None, first)
    for each in others:
        change(node, first, each)
        change(node, each, first)
