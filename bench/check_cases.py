"""Checks of many hosts, in the lab and over ssh, beside testinfra over ssh (issue 8, "Speed").

The hosts are nodes with a real sshd each; who asks over ssh is in a node as well. Twenty checks a
host: files, commands, ports and processes. testinfra keeps one connection a host, too (OpenSSH's
ControlPersist, with a path for it), and has four workers of xdist, for it waits for ssh.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
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
from hostlab.sync import Lab

HOSTS: Final = 50
CHECKS: Final = 20
SSHD: Final = "/usr/sbin/sshd"
_LAB: Final = """
name: {name}
segments: [lan]
roles:
  server:
    files:
      /root/.ssh/authorized_keys: {{content: "{public}", mode: 0600}}
      /etc/ssh/bench_config: |
        HostKey /etc/ssh/bench_key
        UsePAM no
        StrictModes no
        PidFile none
      /etc/ssh/bench_key: {{copy: key, mode: 0600}}
      /run/sshd/.keep: ""
    jobs:
      sshd:
        exec: "{sshd} -D -f /etc/ssh/bench_config"
        readiness: {{port: 22, within: 60s}}
    checks:
{checks}
nodes:
  admin:
    files:
      /root/.ssh/id_ed25519: {{copy: key, mode: 0600}}
      /root/.ssh/config: |
        Host *
          StrictHostKeyChecking no
          LogLevel ERROR
          ControlPath ~/.ssh/%C
      /root/inventory: {{copy: inventory}}
      /root/lab.yaml: {{copy: outside.yaml}}
      /root/test_hosts.py: {{copy: test_hosts.py}}
  host: {{count: {hosts}, role: server}}
"""
_CHECKS: Final = (
    "{file: /etc/passwd}",
    '{command: "true"}',
    "{listens: 22}",
    "{process: sshd}",
)
_TESTS: Final = """
import pytest

@pytest.mark.parametrize("number", range(%d))
def test_file(host, number):
    assert host.file("/etc/passwd").is_file

@pytest.mark.parametrize("number", range(%d))
def test_command(host, number):
    assert host.run("true").rc == 0

@pytest.mark.parametrize("number", range(%d))
def test_port(host, number):
    assert host.socket("tcp://22").is_listening

@pytest.mark.parametrize("number", range(%d))
def test_process(host, number):
    assert host.process.filter(comm="sshd")
"""


@contextmanager
def _fleet(hosts: int, checks: int) -> Iterator[Lab]:
    """The hosts, up and with their sshd running."""
    each = checks // len(_CHECKS)
    lines = "\n".join(f"      - {check}" for check in _CHECKS for _ in range(each))
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / "key")]
        subprocess.run(keygen, check=True)
        names = "\n".join(f"host{number}" for number in range(1, hosts + 1))
        (directory / "inventory").write_text(f"{names}\n*: server\n")
        outside = f"roles:\n  server:\n    checks:\n{lines}\n"
        (directory / "outside.yaml").write_text(outside)
        (directory / "test_hosts.py").write_text(_TESTS % ((each,) * 4))
        text = _LAB.format(
            name=f"bench-checks-{os.getpid()}",
            public=(directory / "key.pub").read_text().strip(),
            sshd=SSHD,
            checks=lines,
            hosts=hosts,
        )
        (directory / "lab.yaml").write_text(text)
        with Lab(directory / "lab.yaml") as lab:
            for name, node in lab.nodes().items():
                if name != "admin":
                    node.wait_settled()
            yield lab


def _missing() -> str | None:
    if os.geteuid() != 0 or not os.path.exists(SSHD) or shutil.which("ssh") is None:
        return "needs root and openssh-server"
    return ours.lab_missing()


def _testinfra_missing() -> str | None:
    for module in ("testinfra", "xdist"):
        if importlib.util.find_spec(module) is None:
            return f"needs {module}: pip install pytest-testinfra pytest-xdist"
    return _missing()


def _timed(lab: Lab, argv: list[str], checks: int, *, inside: bool) -> Metrics:
    """A command in the admin's node, or on the machine; all that it asks must hold."""
    started = time.perf_counter()
    if inside:
        shell = ["sh", "-c", 'cd /root && exec "$@"', "sh", *argv]
        done = lab["admin"].execute(shell, timeout_s=3600, environment={"HOME": "/root"})
        status, output = done.status, done.stdout + done.stderr
    else:
        run = subprocess.run(argv, capture_output=True, check=False)
        status, output = run.returncode, run.stdout + run.stderr
    took_s = time.perf_counter() - started
    assert status == 0, output[-2000:].decode(errors="replace")
    return {"check_ms": took_s / checks * 1e3, "all_s": took_s}


def _in_lab(hosts: int, checks: int) -> Metrics:
    with _fleet(hosts, checks) as lab:
        argv = [sys.executable, "-m", "hostlab.cli.main", "check", lab.name]
        return _timed(lab, argv, hosts * checks, inside=False)


def _over_ssh(hosts: int, checks: int) -> Metrics:
    with _fleet(hosts, checks) as lab:
        command = [sys.executable, "-m", "hostlab.cli.main", "check", "lab.yaml"]
        return _timed(lab, [*command, "--ssh", "inventory"], hosts * checks, inside=True)


def _testinfra(hosts: int, checks: int) -> Metrics:
    with _fleet(hosts, checks) as lab:
        names = ",".join(f"ssh://host{number}" for number in range(1, hosts + 1))
        pytest = [sys.executable, "-m", "pytest", "-q", "-n", "4", "-p", "no:cacheprovider"]
        return _timed(
            lab, [*pytest, f"--hosts={names}", "test_hosts.py"], hosts * checks, inside=True
        )


def _case(
    name: str,
    title: str,
    work: Callable[[int, int], Metrics],
    limit: float,
    hosts: int,
    checks: int,
) -> Benchmark:
    return Benchmark(
        name=name,
        title=f"{title}: {hosts} hosts, {checks} checks each",
        contenders=(
            Contender("hostlab", functools.partial(work, hosts, checks), _missing),
            Contender(
                "testinfra", functools.partial(_testinfra, hosts, checks), _testinfra_missing, 1
            ),
        ),
        targets=(Target("check_ms", limit, "testinfra", at_least=True),),
        rounds=3,
    )


def checks_case(hosts: int = HOSTS, checks: int = CHECKS) -> Benchmark:
    """In the lab, beside testinfra over ssh to the same nodes."""
    return _case("checks", "checks in the lab, beside ssh", _in_lab, 20.0, hosts, checks)


def ssh_case(hosts: int = HOSTS, checks: int = CHECKS) -> Benchmark:
    """Over ssh, both."""
    return _case("checks-ssh", "checks over ssh", _over_ssh, 3.0, hosts, checks)


CHECK_CASES: Mapping[str, Callable[[], Benchmark]] = {
    "checks": checks_case,
    "checks-ssh": ssh_case,
}
