"""Putting a ruleset live on a machine, and who may say that it is good."""

from __future__ import annotations

import shutil

import pytest

from hostlab.firewall.change import Phase
from hostlab.firewall.difference import text_difference
from hostlab.firewall.ruleset import Ruleset
from tests.netns.firewall.machine_site import HOSTLAB, Machine
from tests.netns.lab.lab_site import wait_until

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


LEARNING = """\
table inet learns {
	set seen {
		type ipv4_addr
		size 128
		flags dynamic,timeout
		timeout 1m
	}

	chain input {
		type filter hook input priority filter; policy accept;
		tcp dport 22 add @seen { ip saddr }
	}
}
"""


def test_what_packets_add_to_sets_meanwhile_is_no_difference(host: Machine) -> None:
    learning = Ruleset(nft=LEARNING)
    assert host.put(learning, check="true").status == 0
    assert host.ssh("true").status == 0
    assert "10.44.0.2" in host.read().nft
    more = Ruleset(nft=LEARNING.replace("dport 22", "dport { 22, 23 }"))
    done = host.put(more, check="exit 1")
    assert b"old rules are back" in done.stderr, done.stderr
    assert b"nothing to do" not in host.put(learning, check="true").stdout


def test_the_notebooks_directory_is_applied_with_what_it_does_beside_rules(host: Machine) -> None:
    rules = host.path("/tmp/rules.d")
    rules.mkdir()
    (rules / "10-base").write_text(
        "iptables -P FORWARD DROP\necho 1 > /proc/sys/net/ipv4/ip_forward\n"
    )
    (rules / "20-more").write_text(
        "ip6tables -A INPUT -i lo -j ACCEPT\nmain ip addr add 192.168.15.1/24 dev eth0\n"
    )
    before = host.read()
    words = ("apply", "/tmp/rules.d", "--live", "--check")
    state = "sysctl -n net.ipv4.ip_forward; ip -br -4 addr show dev eth0 | grep -c 192.168.15.1"
    held = 'test "$(sysctl -n net.ipv4.ip_forward)" = 1 && ip -4 addr | grep -q 192.168.15.1'
    for check, status in ((f"{held} && false", 1), (held, 0)):
        done = host.firewall(*words, check)
        assert done.status == status, (done.stdout, done.stderr)
        expected = "0\n0\n" if status else "1\n1\n"
        assert host.shell(f"{state} || true") == expected
    assert ":FORWARD DROP" in host.read().iptables
    assert "-A INPUT -i lo -j ACCEPT" in host.read().ip6tables
    again = host.firewall(*words, "true")
    assert b"nothing to do" in again.stdout, again.stdout
    done = host.firewall("rollback", "1", "--live", "--check", "true")
    assert done.status == 0, done.stderr
    assert host.shell(f"{state} || true") == "0\n0\n"
    assert text_difference(before, host.read()) == ()


def test_the_session_that_hung_up_is_not_needed_for_the_way_back(host: Machine) -> None:
    before = host.read()
    host.path("/tmp/closed").write_text(LOCK_OUT.iptables)
    words = (*HOSTLAB_APPLY, "/tmp/closed", "--live", "--within", "4", "--force")
    session = host.pool.submit(host.ssh, *words, options=("-tt",))
    host.wait_phase(Phase.LOADED)
    clients = "kill -9 $(cat /proc/[0-9]*/stat | grep '(ssh)' | cut -d' ' -f1)"
    host.admin.execute(("sh", "-c", clients))
    assert session.result().status
    host.wait_phase(Phase.REVERTED)
    assert text_difference(before, host.read()) == ()
    wait_until(host.is_alone, "the end of the way back")


def test_a_lock_out_is_refused_before_anything_is_changed(host: Machine) -> None:
    host.path("/tmp/closed").write_text(LOCK_OUT.iptables)
    before = host.read()
    refused = host.ssh(*HOSTLAB_APPLY, "/tmp/closed", "--live")
    assert refused.status == 1
    expected = (
        b"nothing was changed: a new connection from 10.44.0.2 to port 22 of 10.44.0.1 would not"
        b" come in: no rule lets it in, and ip filter INPUT drops by default"
    )
    assert expected in refused.stderr, refused.stderr
    assert host.change() is None
    assert text_difference(before, host.read()) == ()


def test_expectations_are_asked_and_flows_looked_at_before_the_load(host: Machine) -> None:
    tracking = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m conntrack --ctstate NEW\nCOMMIT\n"
    host.shell(f"printf '{tracking}' | iptables-nft-restore")
    control = ("-S", "/tmp/flow")
    host.ssh("true", options=(*control, "-o", "ControlMaster=yes", "-o", "ControlPersist=yes"))
    host.path("/tmp/closed").write_text(LOCK_OUT.iptables)
    host.path("/tmp/expect.yaml").write_text(
        "expect:\n  - accept: tcp 10.44.0.2 -> 10.44.0.1:22 in eth0\n"
    )
    strict = host.firewall("apply", "/tmp/closed", "--dry-run", "--strict")
    assert strict.status == 0, strict.stderr
    lines = [line for line in strict.stdout.splitlines() if b"could not begin any more" in line]
    assert [b"tcp 10.44.0.2:" in line and b"10.44.0.1:22 in eth0" in line for line in lines] == [
        True
    ], strict.stdout
    expecting = (
        "apply",
        "/tmp/closed",
        "--live",
        "--check",
        "true",
        "--expect",
        "/tmp/expect.yaml",
    )
    refused = host.firewall(*expecting)
    assert (refused.status, host.change()) == (1, None)
    assert b"/tmp/expect.yaml:2" in refused.stderr, refused.stderr
    host.path("/tmp/closed").write_text(GOOD.iptables)
    assert b"1 packets end as expected" in host.firewall(*expecting).stdout
    host.admin.execute(("ssh", *control, "-O", "exit", "root@10.44.0.1"))


def test_a_live_change_has_no_other_target(host: Machine) -> None:
    done = host.firewall("apply", "/tmp/rules", "--live", "--node", "lab/node")
    assert (done.status, b"--live changes this machine" in done.stderr) == (2, True), done.stderr
