"""Whoever of a change's makers is killed, the old rules return: by the job, or the next command."""

from __future__ import annotations

import shlex
import signal

import pytest

from hostlab.firewall.beside import Kind, Operation, sysctl
from hostlab.firewall.change import Phase
from hostlab.firewall.difference import text_difference
from hostlab.firewall.ruleset import Ruleset
from tests.netns.firewall.machine_site import HISTORY, HOSTLAB, Machine
from tests.netns.lab.lab_site import wait_until

pytestmark = pytest.mark.netns

CLOSED = Ruleset(
    iptables="*filter\n:INPUT DROP [0:0]\n-A INPUT -s 192.0.2.1/32 -j ACCEPT\nCOMMIT\n",
    ip6tables="*filter\n:INPUT DROP [0:0]\nCOMMIT\n",
)
NOT_V6 = Ruleset(
    iptables=CLOSED.iptables,
    ip6tables="*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp -m tcp --dport 1 -j NOWHERE\nCOMMIT\n",
)
FORWARDING = sysctl("net.ipv4.ip_forward", None, "1")


def test_its_job_its_supervisor_and_its_terminal_may_go(host: Machine) -> None:
    before = host.read()
    applied = host.begin(CLOSED, within_s=4)
    maker = host.change()
    assert maker is not None
    host.kill(maker.maker.pid, signal.SIGHUP)
    job = host.named("way-back")
    host.kill(job)
    wait_until(lambda: host.named("way-back") != job, "another job")
    for pid in host.children(host.named("holder")):
        host.kill(pid)
    assert host.phase() is Phase.LOADED
    host.kill(maker.maker.pid)
    applied.result()
    host.wait_phase(Phase.REVERTED)
    assert text_difference(before, host.read()) == ()
    wait_until(host.is_alone, "the end of the way back")


def test_after_the_death_of_all_of_them_the_next_command_takes_it_back(host: Machine) -> None:
    before = host.read()
    applied = host.begin(CLOSED)
    change = host.change()
    assert change is not None
    host.kill_init()
    host.kill(change.maker.pid)
    applied.result()
    said = host.firewall("confirm")
    assert b"whoever looked after it died: the old rules are back" in said.stderr
    assert said.status == 1
    assert text_difference(before, host.read()) == ()


def test_an_applier_without_its_way_back_takes_it_back_itself(host: Machine) -> None:
    before = host.read()
    applied = host.begin(CLOSED, within_s=2)
    host.kill_init()
    done = applied.result()
    assert b"old rules are back" in done.stderr
    assert text_difference(before, host.read()) == ()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_who_is_interrupted_takes_it_back_at_once(host: Machine, number: int) -> None:
    before = host.read()
    applied = host.begin(CLOSED)
    change = host.change()
    assert change is not None
    host.kill(change.maker.pid, signal.SIGTSTP)
    host.kill(change.maker.pid, number)
    done = applied.result()
    assert (done.status, b"interrupted" in done.stderr) == (1, True), done.stderr
    assert text_difference(before, host.read()) == ()
    assert host.is_alone()


def test_a_second_operator_is_told_who_the_first_is(host: Machine) -> None:
    applied = host.begin(CLOSED)
    second = host.put(Ruleset(iptables="*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n"))
    assert second.status == 1
    assert b"root (process" in second.stderr
    assert host.firewall("revert").status == 0
    assert b"old rules are back" in applied.result().stderr


def test_a_check_confirms_or_takes_back(host: Machine) -> None:
    before = host.read()
    failed = host.put(CLOSED, check="exit 3")
    assert (failed.status, b"failed: exit 3" in failed.stdout) == (1, True)
    assert text_difference(before, host.read()) == ()
    assert not host.path(HISTORY).exists()
    passed = host.put(
        CLOSED, check="iptables-nft-save | grep -q 192.0.2.1", operations=(FORWARDING,)
    )
    assert passed.status == 0, passed.stderr
    assert host.shell("sysctl -n net.ipv4.ip_forward") == "1\n"
    back = host.firewall("rollback", "1", "--live", "--check", "true")
    assert back.status == 0, back.stderr
    assert text_difference(before, host.read()) == ()
    assert host.shell("sysctl -n net.ipv4.ip_forward") == "0\n"


def test_who_dies_between_the_word_and_its_record_has_confirmed(host: Machine) -> None:
    died = host.put(CLOSED, check="true", dies_at="confirmed")
    assert died.status == 128 + signal.SIGKILL
    assert host.phase() is Phase.CONFIRMED
    assert "a test" in host.firewall("history").stdout.decode()
    assert "192.0.2.1" in host.read().iptables


def test_what_the_kernel_refuses_in_the_middle_leaves_the_old_rules_whole(host: Machine) -> None:
    host.put(CLOSED, check="true")
    before = host.read()
    good = FORWARDING
    # The address is there, so this fails; its opposite would take it away.
    words = [("ip", "address", verb, "dev", "eth0", "10.44.0.1/24") for verb in ("add", "delete")]
    bad = Operation(kind=Kind.MAIN, subject="ip", do=words[0], undo=words[1])
    for wanted, operations in ((NOT_V6, (good,)), (Ruleset(), (good, bad))):
        done = host.put(wanted, operations=operations)
        assert done.status == 1
        assert b"the old ruleset is there, read back and compared" in done.stderr
        assert text_difference(before, host.read()) == ()
        assert host.shell("sysctl -n net.ipv4.ip_forward") == "0\n"
        assert host.phase() is Phase.REVERTED
    assert "10.44.0.1/24" in host.shell("ip -br address show dev eth0")
    assert host.is_alone()


def test_who_may_not_change_a_firewall_cannot_confirm_one(host: Machine) -> None:
    applied = host.begin(CLOSED)
    words = shlex.join((*HOSTLAB, "firewall", "confirm"))
    line = f"setpriv --bounding-set=-net_admin --inh-caps=-all {words}"
    done = host.server.execute(("sh", "-c", line))
    assert done.status == 3, done.stderr
    assert b"CAP_NET_ADMIN" in done.stderr
    assert host.phase() is Phase.LOADED
    host.firewall("revert")
    applied.result()
