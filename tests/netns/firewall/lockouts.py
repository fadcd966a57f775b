"""Run in a node that plays the machine: lock-outs whose makers are killed, from one seed.

A round applies a ruleset that lets nobody in, kills one or more of those who take part at an
instant or after a time, and waits. Then the old ruleset must be there, which is read with the
kernel's own tools and compared, with every foreign rule, table and set as it was. A line of JSON a
round.

    lockouts.py COUNT SEED [EVERY]

Each EVERY-th round has the init of a real way back; the others have none, and are taken back by the
next command.
"""

from __future__ import annotations

import itertools
import os
import random
import select
import signal
import subprocess
import sys
import time

import msgspec

from hostlab.errors import Problem
from hostlab.firewall import apply, applying, kernel, way_back
from hostlab.firewall.beside import read_sysctls, sysctl
from hostlab.firewall.change import ChangeDirectory, FirewallChange, Maker, Phase, boottime
from hostlab.firewall.difference import text_difference
from hostlab.firewall.here import run_here
from hostlab.firewall.ruleset import Ruleset
from hostlab.linux.procfs import boot_id, children, command_line, start_time
from hostlab.plan.nft_text import nft_tables

WITHIN_S = 0.3
DEADLINE_S = 60.0
INSTANTS = (
    "loading", "before ipset", "behind ipset", "before iptables", "behind iptables",
    "before ip6tables", "behind ip6tables", "before legacy_iptables", "behind legacy_iptables",
    "before nft", "behind nft", "brought", "beside", "verified", "loaded", "brought back",
)  # fmt: skip
VICTIMS = ("maker", "job", "supervisor", "holder", "tool", "all")
FORWARDING = "net.ipv4.ip_forward"
OTHERS = Ruleset(
    iptables=(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n:DOCKER - [0:0]\n"
        "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n"
        "-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE\n"
        "-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80\n"
        "COMMIT\n"
        "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:DOCKER-USER - [0:0]\n"
        ":f2b-sshd - [0:0]\n-A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd\n"
        "-A INPUT -p tcp --dport 25 -j ACCEPT\n"
        "-A FORWARD -j DOCKER-USER\n-A DOCKER-USER -j RETURN\n"
        "-A f2b-sshd -s 192.0.2.66/32 -j REJECT --reject-with icmp-port-unreachable\n"
        "-A f2b-sshd -m set --match-set f2b-more src -j DROP\nCOMMIT\n"
    ),
    legacy_iptables="*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp --dport 26 -j ACCEPT\nCOMMIT\n",
    nft=(
        "table inet f2b-table {\n\tset addr-set {\n\t\ttype ipv4_addr\n"
        "\t\telements = { 192.0.2.66, 192.0.2.67 }\n\t}\n}\n"
        "table ip6 kube {\n\tchain nodes {\n\t\ttcp dport 10250 accept\n\t}\n}\n"
    ),
    ipset="create f2b-more hash:ip\nadd f2b-more 192.0.2.9\n",
)
OPEN = Ruleset(
    iptables=(
        "*filter\n:INPUT DROP [0:0]\n:SSH - [0:0]\n-A INPUT -p tcp -m tcp --dport 22 -j SSH\n"
        "-A SSH -m set --match-set friends src -j ACCEPT\nCOMMIT\n"
    ),
    ip6tables="*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\nCOMMIT\n",
    legacy_iptables=("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -s 192.0.2.99/32 -j DROP\nCOMMIT\n"),
    nft="table inet mine {\n\tchain input {\n\t\ttcp dport 22 accept\n\t}\n}\n",
    ipset="create friends hash:ip family inet hashsize 1024 maxelem 65536 bucketsize 12\n"
    "add friends 198.51.100.9\n",
)
LOCK_OUT = Ruleset(
    iptables=(
        "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:NEW - [0:0]\n-A INPUT -j NEW\n"
        "-A NEW -m set --match-set friends src -j DROP\nCOMMIT\n"
    ),
    ip6tables="*filter\n:INPUT DROP [0:0]\nCOMMIT\n",
    legacy_iptables="*filter\n:INPUT DROP [0:0]\nCOMMIT\n",
    nft=(
        "table inet mine {\n\tchain input {\n\t\ttype filter hook input priority filter;"
        " policy drop;\n\t}\n}\ntable inet more {\n\tchain input {\n\t\ttcp dport 22 drop\n\t}\n}\n"
    ),
    ipset=(
        "create friends hash:ip family inet hashsize 1024 maxelem 65536 bucketsize 12\n"
        "add friends 198.51.100.10\n"
        "create strangers hash:net family inet hashsize 1024 maxelem 65536 bucketsize 12\n"
        "add strangers 203.0.113.0/24\n"
    ),
)


class Round(msgspec.Struct, kw_only=True):
    """One lock-out, as drawn, and what became of it."""

    number: int
    victim: str
    instant: str = ""
    delay_us: int = 0
    is_whole: bool = False
    killed: int = 0
    phase: str = ""
    problem: str = ""


def main() -> None:
    count, seed = int(sys.argv[1]), int(sys.argv[2])
    every = int(sys.argv[3]) if len(sys.argv) > 3 else 10
    place = ChangeDirectory.of_machine()
    place.make()
    kernel.load(run_here, OTHERS)
    with place.operator():
        planned = apply.plan(place, OPEN, run_here)
        asked = apply.Asked(check="true")
        apply.apply(place, "open", planned, asked, lambda _: None)
    start = snapshot()
    choice = random.Random(seed)
    usual_us = {True: 0, False: 0}
    instants = {True: itertools.cycle(("armed", *INSTANTS)), False: itertools.cycle(INSTANTS)}
    for number in range(count):
        is_whole = number % every == 0
        found = Round(
            number=number,
            victim=choice.choice(VICTIMS if is_whole else ("maker", "tool")),
            is_whole=is_whole,
        )
        part, is_timed = choice.random(), choice.random() < 0.5
        if not usual_us[is_whole]:
            found.victim = "nobody"
        elif is_timed:
            found.delay_us = int(part * 1.1 * usual_us[is_whole])
        else:
            found.victim, found.instant = "maker", next(instants[is_whole])
        try:
            taken_us = carry_out(place, found)
            usual_us[is_whole] = usual_us[is_whole] or taken_us
            judge(place, found, start)
        except (Problem, OSError, AssertionError) as error:
            found.problem = f"{type(error).__name__}: {error}"
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
        sys.stdout.flush()


def carry_out(place: ChangeDirectory, found: Round) -> int:
    """Apply, kill, and wait until somebody has taken it back; the time of the load."""
    started = time.monotonic_ns()
    pid = os.fork()
    if not pid:
        make(place, found)
    pidfd = os.pidfd_open(pid)
    try:
        if found.delay_us:
            select.select([pidfd], [], [], found.delay_us / 1e6)
            found.killed = strike(place, found.victim, pid)
        assert select.select([pidfd], [], [], DEADLINE_S)[0], "the maker hangs"
    finally:
        os.close(pidfd)
        os.waitpid(pid, 0)
    taken_us = (time.monotonic_ns() - started) // 1000
    until = boottime() + DEADLINE_S
    while way_back.is_kept(place):
        # Nothing tells of the end of an init that is no child.
        assert boottime() < until, f"it still stands: {place.read()!r:.200}"
        select.select([], [], [], 0.02)
    return taken_us


def make(place: ChangeDirectory, found: Round) -> None:
    """The maker: a process that does what `apply` does; it does not return."""
    status = 1
    try:
        os.setsid()
        if found.instant:
            os.environ[applying.DIES_AT] = found.instant
        planned = apply.plan(place, LOCK_OUT, run_here, (sysctl(FORWARDING, None, "1"),))
        with place.operator():
            if found.is_whole:
                asked = apply.Asked(within_s=WITHIN_S)
                apply.apply(place, "lock-out", planned, asked, lambda _: None)
            else:
                loaded(place, planned)
    except Problem:
        status = 2
    finally:
        os._exit(status)


def loaded(place: ChangeDirectory, planned: apply.Plan) -> None:
    """Armed by nobody: what is left of a change when its way back was killed, too."""
    pid = os.getpid()
    change = FirewallChange(
        phase=Phase.ARMED,
        source="lock-out",
        maker=Maker(pid=pid, started=start_time(pid) or "", user="root"),
        began=time.time(),
        deadline=boottime() + DEADLINE_S,
        within_s=DEADLINE_S,
        boot=boot_id(),
        before=planned.before,
        applied=place.read_applied(),
        wanted=planned.wanted,
        operations=planned.operations,
    )
    place.write(change)
    applying.load(place, change)
    if os.environ.get(applying.DIES_AT) == "brought back":
        applying.take_back(place)


def strike(place: ChangeDirectory, victim: str, maker: int) -> int:
    """Kill; how many there were."""
    holder, job = named(place, way_back.HOLDER), named(place, way_back.STANDS)
    below = children(holder) if holder else []
    tools = [pid for pid in children(maker) if "-restore" in (command_line(pid) or "nft")]
    pids = {
        "maker": [maker],
        "job": [job],
        "supervisor": below,
        "holder": [holder],
        "tool": tools,
        "all": [maker, holder, *below, job],
        "nobody": [],
    }[victim]
    killed = 0
    for pid in filter(None, pids):
        try:
            os.kill(pid, signal.SIGKILL)
            killed += 1
        except ProcessLookupError:
            pass
    return killed


def named(place: ChangeDirectory, name: str) -> int:
    """The living process that a file of the way back names, or 0."""
    try:
        with open(f"{place.path}/{name}", "rb") as file:
            found = msgspec.json.decode(file.read(), type=way_back.ProcessName)
    except (FileNotFoundError, msgspec.DecodeError):
        return 0
    return found.pid if found.is_there() else 0


def judge(place: ChangeDirectory, found: Round, start: dict[str, object]) -> None:
    """Whether all is as it was; the next command is asked first, as a person would."""
    with place.operator():
        apply.recover(place)
        apply.must_be_free(place)
    change = place.read()
    assert change is not None
    found.phase = str(change.phase)
    if change.source == "lock-out":
        assert change.phase is Phase.REVERTED, change.problem
    now = snapshot()
    differences = text_difference(start["ruleset"], now["ruleset"])  # type: ignore[arg-type]  # JSON
    assert differences == (), applying.said(differences)
    for name in ("tables", "others", "forwarding", "sets"):
        assert start[name] == now[name], (name, start[name], now[name])


def snapshot() -> dict[str, object]:
    """What the kernel's own tools say."""
    ruleset = kernel.read(run_here)
    return {
        "ruleset": ruleset,
        "tables": dict(nft_tables(ruleset.nft)),
        "others": [
            line for line in ruleset.iptables.splitlines() if "f2b" in line or "DOCK" in line
        ],
        "sets": sorted(subprocess.check_output(["ipset", "list", "-n"]).split()),
        "forwarding": read_sysctls(os.getpid())[FORWARDING],
    }


if __name__ == "__main__":
    main()
