"""Mininet and munet: started in namespaces of their own, so that they cannot touch the machine.

Each is driven by a program in its own process, under the Python that has it, inside private mount,
network and PID namespaces: when that program ends, whatever it left ends with it.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
OWN_ENVIRONMENT = HERE.parent.parent / ".venv-bench/bin/python"
"""Where `pip install munet` of the benchmark goes; not part of hostlab's own environment."""
DEADLINE_S = 600.0


@dataclass(frozen=True, slots=True)
class NetworkPeer:
    """A network emulator that is measured by a program of ours run in its own Python."""

    name: str
    program: str
    module: str
    pythons: tuple[str, ...]
    commands: tuple[str, ...]
    install_hint: str
    attempts: int = 1
    """How often it is tried until it succeeds; a failed start is not measured."""

    def missing(self) -> str | None:
        """Why it cannot be measured, with the way to get it; None when it can."""
        if os.geteuid() != 0:
            return f"{self.name} needs root"
        lacking = [command for command in self.commands if not shutil.which(command)]
        if lacking:
            return f"{self.name} needs {', '.join(lacking)}: {self.install_hint}"
        if _python_with(self.module, self.pythons) is None:
            return f"{self.name} is not installed: {self.install_hint}"
        return None

    def measure(self, nodes: int, *, execs: int = 20) -> Mapping[str, float]:
        """Start `nodes` on one segment, run `true`, stop: start_ms, stop_ms, exec_ms, pss_mb.

        Start, stop and memory are a node's share; `pss_mb` is its processes' alone, `pss_all_mb`
        with the emulator's own. RuntimeError when it fails.
        """
        python = python_of(self)
        argv = ("unshare", "-m", "-n", "-p", "-f", "--kill-child", "--mount-proc")
        program = (python, str(HERE / self.program), str(nodes), str(execs))
        for _ in range(self.attempts):
            # Whatever it leaves lying about when it fails goes with the directory.
            with tempfile.TemporaryDirectory(prefix="hostlab-bench-") as scratch:
                done = subprocess.run(
                    argv + program,
                    capture_output=True,
                    text=True,
                    timeout=DEADLINE_S,
                    check=False,
                    env=os.environ | {"TMPDIR": scratch},
                )
            if not done.returncode:
                result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
                return result
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise RuntimeError(f"{self.name}, {self.attempts} times: {last}")


def python_of(peer: NetworkPeer) -> str:
    """The Python that has the peer, which must not be missing."""
    python = _python_with(peer.module, peer.pythons)
    assert python, "asked for by missing()"
    return python


@functools.cache
def _python_with(module: str, pythons: tuple[str, ...]) -> str | None:
    for python in pythons:
        command = (python, "-c", f"import {module}")
        if (
            shutil.which(python)
            and not subprocess.run(command, capture_output=True, check=False).returncode
        ):
            return python
    return None


MININET = NetworkPeer(
    name="mininet",
    program="mininet_program.py",
    module="mininet.net",
    pythons=("/usr/bin/python3", str(OWN_ENVIRONMENT), sys.executable),
    commands=("mnexec", "brctl", "ifconfig", "ip"),
    install_hint="apt-get install --no-install-recommends mininet bridge-utils",
)

MUNET = NetworkPeer(
    name="munet",
    program="munet_program.py",
    module="munet.parser",
    pythons=(str(OWN_ENVIRONMENT), sys.executable),
    commands=("ip", "tc", "nsenter", "pgrep"),
    install_hint="python3 -m venv .venv-bench && .venv-bench/bin/pip install munet",
    attempts=2,
)
