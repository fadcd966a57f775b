"""Kills at random instants: of whom, during what, when, all from one seed.

A round brings a lab into a state, starts an operation, waits a number of microseconds drawn over
that operation's measured duration, sends SIGKILL to one process of the lab or to the command, and
then asks the same operation again, which must reach its end. `down` follows, and the machine must
be as it was. Whom to kill is read from the lab's journal and the kernel's list of children.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hostlab.lab import remains
from hostlab.lab.paths import LabDirectory, start_time
from hostlab.linux import cgroups
from hostlab.plan.journal import What
from tests.netns.lab.lab_site import free_port

OPERATIONS = ("up", "apply", "down", "steady")
VICTIMS = ("cli", "hub supervisor", "hub holder", "node supervisor", "node holder")
DEADLINE_S = 60.0
TAIL = 1.2
"""A kill may also come a little after the operation's usual end."""

BEFORE = """
name: {name}
segments:
  left: {{subnets: [10.71.0.0/24], impair: {{delay: 1ms}}}}
  right: {{subnets: [10.72.0.0/24]}}
  over: {{subnets: [10.74.0.0/24], vxlan: {{vni: 7, group: 239.0.0.7}}}}
nodes:
  web:
    interfaces: [left, over]
    gateway: router
    publish: ["127.0.0.1:{port}:80"]
    jobs: {{web: python3 -m http.server 80}}
  router: {{interfaces: [left, right, over], forwarding: true}}
  client: {{interfaces: right, gateway: router}}
  other: {{interfaces: {{eth0: {{segment: right, impair: {{out: {{loss: 0.01%}}}}}}}}}}
checks:
  - {{on: [client, router], http: "http://web/", within: 50s}}
"""

AFTER = """
name: {name}
segments:
  left: {{subnets: [10.71.0.0/24], mtu: 1400, impair: {{rate: 100mbit}}}}
  right: {{subnets: [10.72.0.0/24]}}
  third: {{subnets: [10.73.0.0/24], taps: [t1]{machine}}}
  over: {{subnets: [10.74.0.0/24], vxlan: {{vni: 8, remotes: [web, router]}}}}
  behind: {{extends: over}}
nodes:
  web:
    interfaces: [left, over]
    gateway: router
    publish: ["127.0.0.1:{port}:80"]
    files: {{/srv/hello: hello}}
    jobs: {{web: python3 -m http.server 80, idle: sleep 1000}}
  router: {{interfaces: [left, right, over, third, behind], forwarding: true}}
  client:
    interfaces: {{eth0: {{segment: right, impair: {{delay: 1ms}}}}}}
    gateway: router
    hostname: renamed
  late: {{interfaces: third, gateway: router}}
  sharer: {{namespaces: {{net: late}}}}
checks:
  - {{on: [client, router, late], http: "http://web/", within: 50s}}
"""


class Site:
    """A lab of its own: base directory, descriptions, commands."""

    def __init__(self, where: Path, name: str) -> None:
        self.where = where
        self.name = name
        self.base = str(where / "run")
        self.directory = LabDirectory(name, self.base)
        self.files = {"before": where / "before.yaml", "after": where / "after.yaml"}
        machine = ", machine: 10.73.0.200" if os.geteuid() == 0 else ""
        port = free_port()
        self.files["before"].write_text(BEFORE.format(name=name, port=port))
        self.files["after"].write_text(AFTER.format(name=name, port=port, machine=machine))
        (where / "tmp").mkdir()

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command."""
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "hostlab.cli.main", *arguments],
            env={**os.environ, "HOSTLAB_RUN": self.base, "TMPDIR": str(self.where / "tmp")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end; it may fail, it may not hang."""
        process = self.start(*arguments)
        return self.finish(process)

    def finish(self, process: subprocess.Popen[bytes]) -> subprocess.CompletedProcess[bytes]:
        """A command's result; one that hangs is ended, and is an error."""
        try:
            out, error = process.communicate(timeout=DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            out, error = process.communicate()
            raise AssertionError(f"hangs: {process.args!r}: {(out + error).decode()}") from None
        return subprocess.CompletedProcess(process.args, process.returncode, out, error)

    def must(self, *arguments: str) -> bytes:
        """Run a command that must succeed; its standard output."""
        done = self.run(*arguments)
        text = (done.stdout + done.stderr).decode(errors="replace")
        assert done.returncode == 0, f"{' '.join(arguments)}: exit {done.returncode}: {text}"
        return done.stdout

    def processes(self, victim: str) -> list[int]:
        """The lab's processes of a kind, as they are now."""
        recorded = [e for e in self.directory.recorded() if e.what is What.PROCESS]
        found = []
        for entry in recorded:
            pid, _, started = entry.value.partition(" ")
            if (entry.name == "hub") is victim.startswith("hub") and _runs(int(pid), started):
                found += [int(pid)] if victim.endswith("holder") else _forked(int(pid))
        return found


def _runs(pid: int, started: str) -> bool:
    return start_time(pid) == started


def _forked(holder: int) -> list[int]:
    """The children that run the holder's own program in its pid namespace: its supervisor."""
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{holder}/task/{holder}/children").read_text().split()
        return [int(c) for c in children if _image(int(c)) == _image(holder)]
    return []


def _image(pid: int) -> tuple[bytes, int] | None:
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        return command, os.stat(f"/proc/{pid}/ns/pid").st_ino
    return None


def snapshot(site: Site) -> frozenset[str]:
    """What there is of one site's labs on the machine, found without asking hostlab's own records.

    Processes by their environment as well as by the mark; cgroups by both kinds of hierarchy.
    """
    found = {f"file {p}" for p in (site.where / "tmp").iterdir()}
    if os.path.isdir(site.base):
        found |= {f"file {p}" for p in Path(site.base).rglob("*")} | {f"directory {site.base}"}
    found |= {f"process {pid}" for pid in remains.marked_processes(base=site.base)}
    token = f"HOSTLAB_RUN={site.base}".encode()
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if token in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                found.add(f"process {entry}")
    hierarchies = cgroups.find()
    for base in filter(None, (hierarchies.unified, *hierarchies.v1.values())):
        for directory, below, _ in os.walk(base):
            found |= {f"cgroup {directory}/{b}" for b in below if site.directory.mark in b}
    found |= {f"link {name}" for name in remains.marked_links(site.directory.mark).values()}
    found |= set(Path("/proc/self/mountinfo").read_text().splitlines())
    if os.path.isdir("/run/netns"):
        found |= {f"netns {name}" for name in os.listdir("/run/netns")}
    return frozenset(found)


@dataclass
class Kill:
    """One round, as drawn; enough to repeat it."""

    number: int
    operation: str
    victim: str
    part: float
    """Instant, as a part of the operation's usual duration."""
    delay_us: int = 0
    killed: str = "nobody"
    after_us: int = 0
    problem: str = ""

    def __str__(self) -> str:
        text = f"{self.number:4} {self.operation:7} {self.victim:16} at {self.delay_us:7} us"
        text += f" (killed {self.killed} after {self.after_us} us)"
        return f"{text}: {self.problem}" if self.problem else text


@dataclass
class Campaign:
    """Many rounds with one seed."""

    site: Site
    seed: int
    report: Callable[[str], None] = print
    usual_us: dict[str, int] = field(default_factory=dict)

    def measure(self) -> None:
        """How long each operation takes here, undisturbed."""
        for operation, arguments in (
            ("up", ("up", str(self.site.files["before"]))),
            ("apply", ("apply", str(self.site.files["after"]))),
            ("steady", ("check", self.site.name)),
            ("down", ("down", self.site.name)),
        ):
            started = time.monotonic_ns()
            self.site.must(*arguments)
            self.usual_us[operation] = (time.monotonic_ns() - started) // 1000

    def rounds(self, numbers: range, *, only: int | None = None) -> Iterator[Kill]:
        """Carry out the rounds of these numbers; `only` repeats one of them."""
        choice = random.Random(self.seed)
        for number in range(numbers.stop):
            kill = Kill(
                number, choice.choice(OPERATIONS), choice.choice(VICTIMS), choice.random() * TAIL
            )
            pick = choice.random()
            if number in numbers and only in (None, number):
                yield self.round(kill, pick)

    def round(self, kill: Kill, pick: float) -> Kill:
        """One round, from nothing to nothing."""
        site = self.site
        before = snapshot(site)
        kill.delay_us = int(kill.part * self.usual_us[kill.operation])
        try:
            self._disturb(kill, pick)
            goal = "after" if kill.operation == "apply" else "before"
            if kill.operation != "down":
                site.must("up", str(site.files[goal]))
                status = json.loads(site.must("status", site.name, "--json"))
                assert all(row["pid"] for row in status["nodes"]), f"a node is down: {status}"
                site.must("check", site.name)
                assert json.loads(site.must("plan", str(site.files[goal]), "--json")) == {
                    "operations": []
                }
        except AssertionError as error:
            kill.problem = str(error)
        try:
            site.must("down", site.name)
        except AssertionError as error:
            kill.problem += f" {error}"
        left = snapshot(site) ^ before
        if left:
            kill.problem += f" left: {sorted(left)}"
        self.report(str(kill))
        return kill

    def _disturb(self, kill: Kill, pick: float) -> None:
        site = self.site
        if kill.operation != "up":
            site.must("up", str(site.files["before"]))
        arguments = {
            "up": ("up", str(site.files["before"])),
            "apply": ("apply", str(site.files["after"])),
            "down": ("down", site.name),
            "steady": ("check", site.name),
        }[kill.operation]
        started = time.monotonic_ns()
        process = site.start(*arguments)
        pidfd = os.pidfd_open(process.pid)
        try:
            select.select([pidfd], [], [], kill.delay_us / 1e6)
            _wait_until(started + kill.delay_us * 1000)
            kill.killed = _strike(site, kill.victim, process, pick)
            kill.after_us = (time.monotonic_ns() - started) // 1000
        finally:
            os.close(pidfd)
            done = site.finish(process)
        text = (done.stdout + done.stderr).decode(errors="replace")
        assert "Traceback" not in text, text
        assert done.returncode in (0, 1, 2, 3, -signal.SIGKILL), f"exit {done.returncode}: {text}"


def _wait_until(instant_ns: int) -> None:
    """The rest of a delay when the command has ended before it; nothing tells of an instant."""
    left = instant_ns - time.monotonic_ns()
    if left > 0:
        select.select([], [], [], left / 1e9)


def _strike(site: Site, victim: str, process: subprocess.Popen[bytes], pick: float) -> str:
    """Kill the victim, or if there is none at this instant, the next that there is."""
    start = VICTIMS.index(victim)
    for kind in (*VICTIMS[start:], *VICTIMS[:start]):
        if kind == "cli":
            if process.poll() is None:
                process.kill()
                return "cli"
            continue
        pids = site.processes(kind)
        if pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pids[int(pick * len(pids))], signal.SIGKILL)
                return kind
    return "nobody"
