"""Two nodes on a wire, made with util-linux and iproute2: what checks are judged on.

    web 10.9.0.1, fd09::1  ──  10.9.0.2, fd09::2 db

Their /etc/hosts has both names, `silent` (an address from which nothing comes back), `prohibited`
and `blackhole` (routes of web). Once as root, once in a user namespace.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from hostlab.checks.access import CommandResult, JobStatus

SERVER = Path(__file__).with_name("small_server.py")
HOSTS = """127.0.0.1 localhost
10.9.0.1 web
fd09::1 web
10.9.0.2 db db.lab DB2
fd09::2 db
fd09::2 db6
10.9.0.3 silent
10.9.0.4 prohibited
10.9.0.5 blackhole
"""
MOUNTS = "mount --make-rprivate / && mount --bind {hosts} /etc/hosts && ip link set lo up"
WEB = """
ip link add eth0 address 02:00:00:00:00:01 type veth \\
  peer name eth0 address 02:00:00:00:00:02 netns {peer} &&
ip neigh add fd09::2 lladdr 02:00:00:00:00:02 dev eth0 &&
ip addr add 10.9.0.1/24 dev eth0 && ip addr add fd09::1/64 dev eth0 nodad && ip link set eth0 up &&
ip neigh add 10.9.0.3 lladdr 02:00:00:00:00:03 dev eth0 &&
ip route add prohibit 10.9.0.4 && ip route add blackhole 10.9.0.5
"""
DB = """
echo 0 > /proc/sys/net/ipv4/icmp_ratelimit && echo 0 > /proc/sys/net/ipv6/icmp/ratelimit &&
ip addr add 10.9.0.2/24 dev eth0 && ip addr add fd09::2/64 dev eth0 nodad && ip link set eth0 up &&
ip neigh add fd09::1 lladdr 02:00:00:00:00:01 dev eth0
"""
DEADLINE_S = 60.0


class Node:
    """A `NodeAccess` on a process in namespaces of its own."""

    def __init__(self, name: str, pid: int, *, user: bool) -> None:
        self.name = name
        self.pid = pid
        self.states: dict[str, JobStatus] = {}
        self._enter = ["nsenter", "-t", str(pid), "-n", "-m", "-u", *(["-U"] if user else [])]

    def run(self, command: str, *, timeout_s: float) -> CommandResult:
        try:
            done = subprocess.run(
                [*self._enter, "sh", "-c", command],
                capture_output=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(str(error)) from error
        return CommandResult(status=done.returncode, stdout=done.stdout, stderr=done.stderr)

    def jobs(self, *, timeout_s: float | None = None) -> Mapping[str, JobStatus]:
        return self.states

    def serve(self, *servers: str) -> subprocess.Popen[str]:
        """Start small servers in the node; they end when their stdin does."""
        return subprocess.Popen(
            [*self._enter, sys.executable, "-I", str(SERVER), *servers],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )


class Lab(dict[str, Node]):
    """The two nodes by name, and how to start servers in them."""

    def __init__(self, stack: ExitStack, directory: str, *, user: bool) -> None:
        super().__init__()
        self.stack = stack
        self.is_root = not user
        self.directory = directory
        hosts = Path(directory, "hosts")
        hosts.write_text(HOSTS)
        mounts = MOUNTS.format(hosts=hosts)
        # The second is started from within the first, so that both have one user namespace.
        new = "unshare -n -m -u sh -c"
        db = f"{mounts} && echo $$ && read go && {DB.strip()} && echo up && exec cat"
        web = f"{mounts} && echo $$ && read peer && {WEB.strip().format(peer='$peer')} && echo up"
        words = new.split()
        if user:
            words[1:1] = ["-U", "-r"]
        outer = self._start([*words, f"{web} && exec cat"])
        enter = ["nsenter", "-t", outer[1], "-U", "--preserve-credentials"] if user else []
        inner = self._start([*enter, *new.split(), db])
        for process, word in ((outer[0], inner[1]), (inner[0], "go")):
            assert process.stdin
            assert process.stdout
            process.stdin.write(word + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == "up\n"
        self["web"] = Node("web", int(outer[1]), user=user)
        self["db"] = Node("db", int(inner[1]), user=user)
        self.holders = {"web": outer[0], "db": inner[0]}

    def _start(self, words: list[str]) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.stack.callback(end, process)
        assert process.stdout
        return process, process.stdout.readline().strip()

    @contextmanager
    def serving(self, node: str, *servers: str) -> Iterator[None]:
        """Servers that are bound when the block begins and gone when it ends."""
        process = self[node].serve(*servers)
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            end(process)


def end(process: subprocess.Popen[str]) -> None:
    """Close the standard input that a child lives by, and wait for it."""
    if process.stdin:
        process.stdin.close()
    process.wait(DEADLINE_S)
    if process.stdout:
        process.stdout.close()


def staged(*, user: bool) -> Iterator[Lab]:
    missing = [tool for tool in ("unshare", "nsenter", "ip") if shutil.which(tool) is None]
    words = ["unshare", *(["-U", "-r"] if user else []), "-n", "-m", "true"]
    if missing or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip(f"namespaces cannot be made by {' '.join(words)} (missing: {missing})")
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        os.chmod(directory, 0o755)
        yield Lab(stack, directory, user=user)


@pytest.fixture(scope="module", params=[False, True], ids=["root", "user-namespace"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Two nodes that a module's tests share."""
    yield from staged(user=request.param)


@pytest.fixture
def own_lab() -> Iterator[Lab]:
    """Two nodes that one test may break."""
    yield from staged(user=False)
