"""Others build the network of a drawing: in namespaces of their own, until they are told to end."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from bench.drawings import Drawing
from bench.ours import descendants
from bench.peers.network import DEADLINE_S, HERE, MININET, MUNET, NetworkPeer, python_of
from bench.peers.spawn import command_missing

ROOT: Final = str(HERE.parent.parent)
PRIVATE: Final = ("unshare", "-m", "-n", "-p", "-f", "--kill-child", "--mount-proc")


@dataclass(frozen=True, slots=True)
class Builder:
    """A program of ours that builds a drawing."""

    program: str
    arguments: tuple[str, ...] = ()
    peer: NetworkPeer | None = None
    """Whose Python it needs; None: any."""

    def missing(self) -> str | None:
        """Why it cannot build here, with the way to mend it; None when it can."""
        if self.peer is not None:
            return self.peer.missing()
        if os.geteuid() != 0:
            return "needs root"
        return command_missing("ip", "iproute2")


BY_HAND: Final = Builder("by_hand_program.py")
BY_HAND_DIRECT: Final = Builder("by_hand_program.py", ("direct",))
MUNET_NETWORK: Final = Builder("munet_network_program.py", peer=MUNET)
MININET_NETWORK: Final = Builder("mininet_network_program.py", peer=MININET)


@dataclass(frozen=True, slots=True)
class Built:
    """A network that somebody else has built."""

    staged_s: float
    """Until its builder said that all was started."""
    networks: Mapping[str, str]
    """Node -> a file of its network namespace."""
    program: int

    @property
    def pids(self) -> frozenset[int]:
        """The processes of the network, without the builder's own."""
        return descendants([self.program]) - {self.program}


@contextmanager
def built(drawing: Drawing, builder: Builder) -> Iterator[Built]:
    """Have it built, and ended afterwards; RuntimeError when the builder fails."""
    python = sys.executable if builder.peer is None else python_of(builder.peer)
    # Whatever it leaves lying about goes with the directory.
    with tempfile.TemporaryDirectory(prefix="hostlab-bench-") as scratch:
        os.chmod(scratch, 0o755)
        path, errors = Path(scratch, "drawing"), Path(scratch, "errors")
        path.write_bytes(msgspec.json.encode(drawing))
        with open(errors, "wb") as file:
            running = subprocess.Popen(
                (*PRIVATE, python, str(HERE / builder.program), str(path), *builder.arguments),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env=os.environ | {"TMPDIR": scratch, "PYTHONPATH": ROOT},
            )
        try:
            assert running.stdout is not None
            ready = select.select([running.stdout], [], [], DEADLINE_S)[0]
            told = running.stdout.readline() if ready else b""
            if not told:
                last = (errors.read_text(errors="replace").strip() or "no message").splitlines()
                raise RuntimeError(f"{builder.program}: {last[-1]}")
            yield _built(running.pid, json.loads(told))
        finally:
            # unshare takes its child along, which is the first process of its namespace.
            running.kill()
            running.communicate()


def _built(outer: int, told: dict[str, object]) -> Built:
    children = Path(f"/proc/{outer}/task/{outer}/children").read_text(encoding="ascii")
    program = int(children.split()[0])
    networks = told["networks"]
    staged_s = told["staged_s"]
    assert isinstance(networks, dict)
    assert isinstance(staged_s, float)
    # The program's own view of /proc and /run is reached by its root.
    return Built(
        staged_s, {n: f"/proc/{program}/root{path}" for n, path in networks.items()}, program
    )
