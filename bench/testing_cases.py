"""What a test waits for: a clean lab, a port, the answers of hosts (issue 8, "Speed")."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench import ours
from bench.measure import Benchmark, Contender, Metrics, Target
from bench.peers import MUNET
from hostlab import spec
from hostlab.api import Lab, Node
from hostlab.lab.access import Completed
from hostlab.testing.shared import SharedLab

RESETS: Final = 10
PORTS: Final = 20
HOSTS: Final = 50
ROUNDS_OF_TESTS: Final = 5
"""Each asks a host four things."""
WORKERS: Final = 4
"""Of pytest-xdist, for the contender that waits for ssh most of the time."""
TIME_LIMIT_S: Final = 3600.0
POLL_S: Final = 1.0
THREE: Final = """
name: {name}
segments: [lan]
nodes: {{a: , b: , c: }}
"""
LISTENER: Final = """
import random, socket, time
made = socket.socket()
made.bind(("127.0.0.1", {port}))
time.sleep(random.uniform(0.1, 0.3))
made.listen()
opened = time.monotonic()
made.accept()
print(opened)
"""
SUITE: Final = """
import pytest

@pytest.mark.parametrize("number", range({rounds}))
def test_command(host, number):
    assert host.run("true").rc == 0

@pytest.mark.parametrize("number", range({rounds}))
def test_file(host, number):
    passwd = host.file("/etc/passwd")
    assert passwd.exists
    assert passwd.mode == 0o644

@pytest.mark.parametrize("number", range({rounds}))
def test_port(host, number):
    assert host.socket("tcp://0.0.0.0:22").is_listening

@pytest.mark.parametrize("number", range({rounds}))
def test_process(host, number):
    assert host.process.filter(comm="sshd")
"""
SSHD: Final = """
name: {name}
segments: [lan]
roles:
  host:
    files:
      /srv/host: {{content: {host}, mode: 0600}}
      /srv/authorized: {{content: {public}, mode: 0644}}
    jobs:
      sshd:
        pre_start: mkdir -p /run/sshd
        exec: >-
          /usr/sbin/sshd -D -e -f none -h /srv/host -o StrictModes=no -o PidFile=none
          -o AuthorizedKeysFile=/srv/authorized -o PermitRootLogin=yes -o MaxStartups=100
          -o MaxSessions=100
        readiness: {{port: 22}}
nodes:
  from:
"""


def clean_case(times: int = RESETS) -> Benchmark:
    """A lab as the description says, for the next test."""
    return Benchmark(
        name="clean-lab",
        title="a clean lab of three nodes for the next test; munet's fixture makes one",
        contenders=(
            Contender("hostlab", lambda: _cleaned(times), ours.lab_missing),
            Contender("munet", _munet, MUNET.missing, 3),
        ),
        targets=(
            Target("clean_ms", 10.0, "munet", at_least=True),
            Target("files_ms", 10.0, "munet", "clean_ms", at_least=True),
        ),
        rounds=3,
    )


def port_case(times: int = PORTS) -> Benchmark:
    """From listen(2) to the return of the wait."""
    return Benchmark(
        name="wait-port",
        title="a port opens, `wait_for_open_port` returns; beside a look each second",
        contenders=(
            Contender("hostlab", lambda: _waits(times, _wait), ours.exec_missing),
            Contender("1 s poll", lambda: _waits(max(2, times // 4), _poll), ours.exec_missing),
        ),
        targets=(Target("open_ms", 5.0),),
        rounds=3,
    )


def suite_case(hosts: int = HOSTS, rounds: int = ROUNDS_OF_TESTS) -> Benchmark:
    """One suite of testinfra on many hosts."""
    asked = hosts * rounds * 4
    return Benchmark(
        name="testinfra",
        title=f"{asked:,} host × test on {hosts} nodes with sshd in each, one suite of testinfra",
        contenders=(
            Contender("hostlab", lambda: _suite(hosts, rounds, by_ssh=False), _suite_missing),
            Contender("ssh", lambda: _suite(hosts, rounds, by_ssh=True), _suite_missing, 1),
        ),
        targets=(Target("suite_s", 5.0, "ssh", at_least=True),),
        rounds=2,
    )


def _cleaned(times: int) -> Metrics:
    """After a test that has changed nothing, and after one that has written a file in each node."""
    text = THREE.format(name=f"bench-{os.getpid()}")
    with SharedLab(spec.load(text, file="bench.yaml")) as shared:

        def reset(command: str) -> float:
            for node in shared.lab:
                node.succeed(command)
            begin = time.perf_counter()
            shared.reset()
            return (time.perf_counter() - begin) * 1e3

        reset("true")
        return {
            "clean_ms": statistics.median(reset("true") for _ in range(times)),
            "files_ms": statistics.median(reset("touch /etc/new") for _ in range(times)),
        }


def _munet() -> Metrics:
    found = MUNET.measure(3)
    return {"clean_ms": 3 * (found["start_ms"] + found["stop_ms"])}


def _waits(times: int, wait: Callable[[Node, int], None]) -> Metrics:
    text = THREE.format(name=f"bench-{os.getpid()}")
    with Lab(spec.load(text, file="bench.yaml")) as lab:
        node = lab["a"]
        node.succeed("true")
        return {"open_ms": statistics.median(_opened(node, n, wait) for n in range(times))}


def _opened(node: Node, number: int, wait: Callable[[Node, int], None]) -> float:
    """Milliseconds from listen(2) in the node, by the clock that all share."""
    port = 10_000 + number
    program = LISTENER.format(port=port)
    node.succeed(f"python3 -c '{program}' >/tmp/opened.{port} 2>&1 &")
    wait(node, port)
    returned = time.monotonic()
    node.succeed(f"bash -c ': < /dev/tcp/127.0.0.1/{port}'")
    opened = float(node.wait_until_succeeds(f"grep . /tmp/opened.{port}"))
    return (returned - opened) * 1e3


def _wait(node: Node, port: int) -> None:
    node.wait_for_open_port(port)


def _poll(node: Node, port: int) -> None:
    """As NixOS's driver does it: a command in the machine, again each second."""
    while node.execute(f"ss -Hltn sport = :{port} | grep -q .").status:
        time.sleep(POLL_S)


def _suite_missing() -> str | None:
    for path in ("/usr/sbin/sshd", "/usr/bin/ssh", "/usr/bin/ssh-keygen"):
        if not os.path.exists(path):
            return f"needs {path}: apt-get install openssh-server openssh-client"
    for module in ("testinfra", "xdist"):
        try:
            __import__(module)
        except ImportError:
            return f"needs {module}: pip install pytest-testinfra pytest-xdist"
    return ours.exec_missing()


def _suite(hosts: int, rounds: int, *, by_ssh: bool) -> Metrics:
    """Seconds of the whole pytest run, as one who types it waits for it."""
    with tempfile.TemporaryDirectory(prefix="hostlab-bench-") as name, _reachable(
        Path(name), hosts
    ) as lab:  # fmt: skip
        directory = Path(name)
        (directory / "test_suite.py").write_text(SUITE.format(rounds=rounds))
        words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_suite.py"]
        if by_ssh:
            hostnames = ",".join(f"ssh://n{number}" for number in range(hosts))
            words += [f"--hosts={hostnames}", f"--ssh-config={directory}/config", f"-n{WORKERS}"]
            return _measured(lambda: _from_node(lab, words, directory), hosts * rounds * 4)
        words.append(f"--hosts=hostlab://{lab.name}/n*")
        return _measured(lambda: _from_here(words, directory), hosts * rounds * 4)


def _measured(run: Callable[[], str], asked: int) -> Metrics:
    begin = time.perf_counter()
    printed = run()
    took_s = time.perf_counter() - begin
    if f"{asked} passed" not in printed:
        raise RuntimeError(f"not all {asked} passed: {printed[-300:]}")
    return {"suite_s": took_s}


def _from_here(words: list[str], directory: Path) -> str:
    done = subprocess.run(
        words, cwd=directory, capture_output=True, text=True, check=False, timeout=TIME_LIMIT_S
    )
    return done.stdout + done.stderr


def _from_node(lab: Lab, words: list[str], directory: Path) -> str:
    """ssh is used from a node of the lab: the machine has no way into it."""
    files = {each.name: each.read_text() for each in directory.iterdir() if each.is_file()}
    node = lab["from"]
    program = "import json, os, sys; os.makedirs(sys.argv[1], exist_ok=True); os.umask(0o077)\n"
    program += "for n, t in json.load(sys.stdin).items(): open(sys.argv[1] + '/' + n, 'w').write(t)"
    node.execute(
        ["python3", "-c", program, str(directory)], stdin=json.dumps(files).encode()
    )  # fmt: skip
    done: Completed = node.execute(words, directory=str(directory), timeout_s=TIME_LIMIT_S)
    return (done.stdout + done.stderr).decode(errors="replace")


@contextmanager
def _reachable(directory: Path, hosts: int) -> Iterator[Lab]:
    """The nodes, each with sshd, and one to come from; keys and ssh's configuration beside."""
    for name in ("host", "user"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)]
        subprocess.run(words, check=True)
    (directory / "config").write_text(
        f"Host *\n  User root\n  IdentityFile {directory}/user\n  IdentityAgent none\n"
        "  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n"
        f"  ControlMaster auto\n  ControlPersist 60s\n  ControlPath {directory}/%C\n"
    )
    text = SSHD.format(
        name=f"bench-{os.getpid()}",
        host=json.dumps((directory / "host").read_text()),
        public=json.dumps((directory / "user.pub").read_text()),
    ) + "".join(f"  n{number}: {{role: host}}\n" for number in range(hosts))
    with Lab(spec.load(text, file="bench.yaml")) as lab:
        for node in lab:
            if node.name != "from":
                node.wait_for_open_port(22)
        with contextlib.suppress(FileNotFoundError):
            (directory / "host").unlink()
        yield lab


TESTING_CASES: Mapping[str, Callable[[], Benchmark]] = {
    "clean-lab": clean_case,
    "wait-port": port_case,
    "testinfra": suite_case,
}
