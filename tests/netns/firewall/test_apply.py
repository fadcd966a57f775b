"""Putting a ruleset live on a machine, and who may say that it is good."""

from __future__ import annotations

import shutil

import pytest

from hostlab.firewall.change import Phase
from hostlab.firewall.difference import text_difference
from hostlab.firewall.ruleset import Ruleset
from tests.netns.firewall.machine_site import HOSTLAB, Machine

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(
        not all(map(shutil.which, ("ssh", "/usr/sbin/sshd"))), reason="no ssh and sshd here"
    ),
]

HOSTLAB_APPLY = (*HOSTLAB, "firewall", "apply")
HOSTLAB_CONFIRM = (*HOSTLAB, "firewall", "confirm")
OTHERS = (
    "table inet f2b-table {\n\tset addr-set {\n\t\ttype ipv4_addr\n\t\telements = { 192.0.2.66 }"
    "\n\t}\n}\n"
)
DOCKER = (
    "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:DOCKER - [0:0]\n:f2b-sshd - [0:0]\n"
    "-A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd\n-A INPUT -p tcp --dport 25 -j ACCEPT\n"
    "-A FORWARD -o docker0 -j DOCKER\n-A DOCKER -d 172.17.0.2/32 -o docker0 -j ACCEPT\n"
    "-A f2b-sshd -s 192.0.2.66/32 -j DROP\nCOMMIT\n"
)
GOOD = Ruleset(
    iptables=(
        "*filter\n:INPUT DROP [0:0]\n-A INPUT -i lo -j ACCEPT\n"
        "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\nCOMMIT\n"
    ),
    ip6tables="*filter\n:INPUT DROP [0:0]\n-A INPUT -i lo -j ACCEPT\nCOMMIT\n",
)
LOCK_OUT = Ruleset(
    iptables=(
        "*filter\n:INPUT DROP [0:0]\n"
        "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\nCOMMIT\n"
    ),
    nft=(
        "table inet mine {\n\tchain input {\n\t\ttype filter hook input priority filter;"
        " policy accept;\n\t\ttcp dport 22 ct state new drop\n\t}\n}\n"
    ),
)


def test_a_good_change_is_confirmed_by_a_new_connection_and_by_no_older_one(host: Machine) -> None:
    masters = [("-S", f"/tmp/{name}") for name in ("first", "second")]
    for control in masters:
        assert host.ssh("true", options=(*control, "-o", "ControlMaster=yes", "-o",
                                         "ControlPersist=yes")).status == 0  # fmt: skip
    rules = "/tmp/rules"
    host.path(rules).write_text(GOOD.iptables)
    words = (*HOSTLAB_APPLY, rules, "--live")
    applied = host.pool.submit(host.ssh, *words, options=masters[0])
    host.wait_phase(Phase.LOADED)
    for control in masters:
        refused = host.ssh(*HOSTLAB_CONFIRM, options=control)
        assert refused.status == 1
        assert b"began before" in refused.stderr
    assert host.phase() is Phase.LOADED
    confirmed = host.ssh(*HOSTLAB_CONFIRM)
    assert confirmed.status == 0, confirmed.stderr
    done = applied.result()
    assert done.status == 0, done.stderr
    assert "--dport 22 -j ACCEPT" in host.read().iptables
    assert "/tmp/rules" in host.firewall("history").stdout.decode()
    for control in masters:
        host.admin.execute(("ssh", *control, "-O", "exit", "root@10.44.0.1"))
    assert host.is_alone()


def test_a_lock_out_is_taken_back_and_read_back_with_foreign_parts_untouched(host: Machine) -> None:
    host.shell(f"printf '{DOCKER}' | iptables-nft-restore; printf '{OTHERS}' | nft -f -")
    before = host.read()
    applied = host.begin(LOCK_OUT)
    assert host.ssh("true", options=("-o", "ConnectTimeout=1")).status == 255
    reverted = host.firewall("revert")
    assert b"old rules are back, read back and compared" in reverted.stdout
    assert applied.result().status == 1
    now = host.read()
    assert text_difference(before, now) == ()
    assert now.nft == before.nft
    assert host.ssh("true").status == 0
    assert host.is_alone()
