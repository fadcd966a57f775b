"""A node that plays the machine whose firewall is changed, and what is asked of it from outside."""

from __future__ import annotations

import os
import select
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from hostlab.firewall import kernel
from hostlab.firewall.beside import Operation
from hostlab.firewall.change import FirewallChange, Phase
from hostlab.firewall.ruleset import Ruleset
from hostlab.lab.access import Completed, NodeConnection
from tests.netns.firewall.put_live import Order
from tests.netns.lab.lab_site import Site, needs_hostlab_in_nodes, site, wait_until

HOSTLAB = (sys.executable, "-P", "-m", "hostlab.cli.main")
PROGRAM = str(Path(__file__).with_name("put_live.py"))
PLACE = "/run/hostlab/.firewall"
HISTORY = "/var/lib/hostlab/firewall"
RESET = (
    "nft flush ruleset; for i in iptables-legacy ip6tables-legacy; do $i -F; $i -X;"
    " $i -P INPUT ACCEPT; $i -P OUTPUT ACCEPT; $i -P FORWARD ACCEPT; done; ipset destroy;"
    f" rm -rf {PLACE} {HISTORY}; sysctl -qw net.ipv4.ip_forward=0"
)
LAB = """\
segments: {lan: 10.44.0.0/24}
nodes:
  server:
    interfaces: lan
    nesting: true
    jobs:
      sshd:
        pre_start: |
          mkdir -p /run/sshd /tmp/keys
          ssh-keygen -q -t ed25519 -N '' -f /tmp/keys/host
        exec: /usr/sbin/sshd -D -e -o UsePAM=no -o HostKey=/tmp/keys/host -o UseDNS=no
        readiness: {port: 22}
  admin: {interfaces: lan}
"""


class Machine:
    """The node, and one beside it from which people come."""

    def __init__(self, server: NodeConnection, admin: NodeConnection, lab: Site) -> None:
        self.lab = lab
        self.server = server
        self.admin = admin
        self.pool: ThreadPoolExecutor
        """Each test has one of its own."""

    def prepare(self) -> None:
        """Let the other node in; a node's supervisor starts with the first connection, too."""
        line = "[ -e /tmp/key ] || ssh-keygen -q -t ed25519 -N '' -f /tmp/key; cat /tmp/key.pub"
        key = shlex.quote(self.admin.execute(("sh", "-c", line)).stdout.decode())
        self.shell(
            "mkdir -p /root/.ssh; chmod 700 /root /root/.ssh;"
            f" printf %s {key} > /root/.ssh/authorized_keys"
        )

    def power_off(self) -> None:
        """All of the machine ends at once; then it is started again."""
        pidfd = os.pidfd_open(self.server.pid)
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            assert select.select([pidfd], [], [], 60)[0]
        finally:
            os.close(pidfd)
        lab = self.lab.up(LAB)
        lab["server"].wait_settled()
        self.server = NodeConnection(self.lab.name, "server", lab["server"].pid)
        self.prepare()

    def shell(self, line: str) -> str:
        """What a shell on the machine says; it must succeed."""
        done = self.server.execute(("sh", "-c", line))
        assert done.status == 0, (line, done.stdout, done.stderr)
        return done.stdout.decode()

    def firewall(self, *words: str, dies_at: str = "") -> Completed:
        """`hostlab firewall …` on the machine."""
        argv = (*HOSTLAB, "firewall", *words)
        return self.server.execute(argv, environment=_environment(dies_at), timeout_s=60)

    def put(
        self,
        wanted: Ruleset,
        *,
        within_s: float = 60,
        check: str | None = None,
        operations: Sequence[Operation] = (),
        dies_at: str = "",
    ) -> Completed:
        """Apply a ruleset; its end."""
        order = Order(wanted=wanted, within_s=within_s, check=check, operations=tuple(operations))
        return self.server.execute(
            (sys.executable, "-P", PROGRAM),
            stdin=msgspec.json.encode(order),
            environment=_environment(dies_at),
            timeout_s=60,
        )

    def begin(self, wanted: Ruleset, *, within_s: float = 60) -> Future[Completed]:
        """Apply a ruleset, and go on when it waits for a word."""
        future = self.pool.submit(self.put, wanted, within_s=within_s)
        self.wait_phase(Phase.LOADED)
        return future

    def path(self, path: str) -> Path:
        """A file of the machine, seen from outside."""
        return Path(f"/proc/{self.server.pid}/root{path}")

    def change(self) -> FirewallChange | None:
        """The change as it is on the machine's disk."""
        try:
            data = self.path(f"{PLACE}/change.json").read_bytes()
        except FileNotFoundError:
            return None
        return msgspec.json.decode(data, type=FirewallChange)

    def phase(self) -> Phase | None:
        """How far it is."""
        found = self.change()
        return None if found is None else found.phase

    def wait_phase(self, phase: Phase) -> None:
        """Until the change is so far."""
        wait_until(lambda: self.phase() is phase, f"{phase}, it is {self.phase()}")

    def named(self, name: str) -> int:
        """The pid, on the machine, that a file of the way back names."""
        pid: int = msgspec.json.decode(self.path(f"{PLACE}/{name}").read_bytes())["pid"]
        return pid

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        """A signal to a process of the machine, if it is there."""
        self.shell(f"kill -{int(number)} {pid} || true")

    def children(self, pid: int) -> list[int]:
        """A process's children, by their pids on the machine."""
        return [int(word) for word in self.shell(f"cat /proc/{pid}/task/{pid}/children").split()]

    def kill_init(self) -> None:
        """The whole init of the way back, from its holder down to its job."""
        holder, job = self.named("holder"), self.named("way-back")
        for pid in (holder, *self.children(holder), job):
            self.kill(pid)

    def read(self) -> Ruleset:
        """What the machine's kernel holds."""
        return kernel.read(self.server.execute)

    def ssh(self, *words: str, options: Sequence[str] = ()) -> Completed:
        """From the other node by a connection of its own, unless the options say which."""
        argv = ("ssh", "-n", "-i", "/tmp/key", "-o", "StrictHostKeyChecking=no", "-o",
                "ConnectTimeout=5", *options, "root@10.44.0.1", shlex.join(words))  # fmt: skip
        return self.admin.execute(argv, timeout_s=60)

    def reset(self) -> None:
        """As after a boot; who was looking after a change is ended."""
        change = self.change()
        if change is not None and not change.has_ended:
            self.kill_init()
            self.kill(change.maker.pid)
        self.server.execute(("sh", "-c", RESET))

    def is_alone(self) -> bool:
        """Whether no init of a way back is left on the machine."""
        return "way-back" not in self.shell(
            f"cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -o '{PLACE}/job[s]'"
            " && echo way-back || true"
        )


def _environment(dies_at: str) -> dict[str, str]:
    return {"HOSTLAB_FIREWALL_DIES_AT": dies_at} if dies_at else {}


@contextmanager
def machine(directory: Path) -> Iterator[Machine]:
    """The lab, for as many tests as want it."""
    needs_hostlab_in_nodes()
    with pytest.MonkeyPatch.context() as patch, site(directory, patch) as found:
        yield from _staged(found)


def _staged(found: Site) -> Iterator[Machine]:
    lab = found.up(LAB)
    lab["server"].wait_settled()
    nodes = {name: NodeConnection(found.name, name, lab[name].pid) for name in ("server", "admin")}
    made = Machine(nodes["server"], nodes["admin"], found)
    made.prepare()
    yield made
