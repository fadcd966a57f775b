"""What the page tells beside a verdict that does not hold: the node's logs, and its packets.

Nobody knows before which packets will be asked for. So what fails is asked once more, while all
interfaces of its node are captured; what passes then is what passes each time that it fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Final, Protocol

import msgspec

from hostlab.checks.access import NodeAccess
from hostlab.checks.judge import judge
from hostlab.checks.secrets import Masking
from hostlab.checks.verdict import Outcome, Report
from hostlab.errors import Problem, in_a_line
from hostlab.observe.in_node import capture_socket_in, interfaces_in
from hostlab.observe.pcapng import write_capture
from hostlab.spec.model import Check, Lab

MOST: Final = 32
"""As many failures are looked into; a fleet that is down has one reason."""
LOG_LINES: Final = 6
PACKETS: Final = 40
"""As many are told; the file has all of them."""
AGAIN_S: Final = 1.0
DECODE_S: Final = 20.0
DIRECTORY: Final = "packets"


class LoggingNode(NodeAccess, Protocol):
    """A node whose jobs write logs."""

    def log_tail(self, job: str, lines: int) -> tuple[str, ...]:
        """The last lines of a job's log."""
        ...


def with_logs(report: Report, nodes: Mapping[str, LoggingNode], described: Lab) -> Report:
    """The same report; what fails has the last lines of what its node's jobs wrote.

    With the nodes before them, also of what the jobs of the nodes wrote that it has asked. The lab
    is as it is `described`.
    """
    masking = Masking(described.secrets)
    told: dict[str, tuple[str, ...]] = {}
    # The init of a node without jobs would start for this question alone.
    telling = {node.name for node in described.nodes if node.has_jobs} & nodes.keys()

    def said(node: str) -> tuple[str, ...]:
        if node in telling and node not in told and len(told) < MOST:
            told[node] = tuple(map(masking.text, _logs(nodes[node])))
        return told.get(node, ())

    rows = list(report.rows)
    for number, row in enumerate(rows):
        if row.outcome is Outcome.FAILS and row.node in nodes:
            lines = list(said(row.node))
            for node in row.asks:
                lines += [f"{node}/{line}" for line in said(node)]
            rows[number] = msgspec.structs.replace(row, jobs_said=tuple(lines))
    return msgspec.structs.replace(report, rows=tuple(rows))


def _logs(node: LoggingNode) -> Iterator[str]:
    with suppress(Problem, OSError):
        for job in node.jobs():
            for line in node.log_tail(job, LOG_LINES):
                yield f"{job}: {line}"


def with_packets(
    report: Report,
    checks: Sequence[Check],
    nodes: Mapping[str, NodeAccess],
    directory: str,
    secrets: Sequence[str] = (),
) -> Report:
    """The same report; what fails has the packets that passed its node when it was asked again.

    `checks` are those that were judged, in their order. The packets are in pcapng files below
    `directory`, one for a verdict and interface, as they are: secrets are masked in what is told of
    them alone.
    """
    masking = Masking(secrets)
    asked = [(check, node) for check in checks for node in check.nodes]
    rows = list(report.rows)
    failed = [
        (number, *each)
        for number, (row, each) in enumerate(zip(rows, asked, strict=True))
        if row.outcome is Outcome.FAILS and row.node in nodes
    ]
    for number, check, node in failed[:MOST]:
        again = msgspec.structs.replace(
            check, nodes=(node,), within_s=min(check.within_s, AGAIN_S), condition=None
        )
        place = os.path.join(directory, DIRECTORY)
        os.makedirs(place, exist_ok=True)
        try:
            with _captured(nodes[node].pid, os.path.join(place, f"{number}-{node}")) as files:
                judge([again], nodes)
        except (Problem, OSError) as error:
            told: tuple[str, ...] = (f"they could not be captured: {in_a_line(error)}",)
        else:
            told = tuple(masking.text(line) for line in _told(files))
        rows[number] = msgspec.structs.replace(rows[number], packets=told)
    return msgspec.structs.replace(report, rows=tuple(rows))


@contextmanager
def _captured(pid: int, prefix: str) -> Iterator[dict[str, str]]:
    """Every interface of a node, each into a file of its own; interface -> file."""
    files: dict[str, str] = {}
    with ExitStack() as stack:
        stop, stopper = os.pipe2(os.O_CLOEXEC)
        stack.callback(os.close, stop)
        told = stack.enter_context(ExitStack())
        told.callback(os.close, stopper)
        threads = []
        for interface in interfaces_in(pid):
            sock = stack.enter_context(capture_socket_in(pid, interface))
            path = f"{prefix}-{interface}.pcapng"
            out = stack.enter_context(open(path, "wb", buffering=0))
            files[interface] = path
            threads.append(
                threading.Thread(
                    target=write_capture,
                    args=(sock, out.fileno()),
                    kwargs={"interface": interface, "stop": stop},
                )
            )
        for thread in threads:
            thread.start()
        try:
            yield files
        finally:
            told.close()
            for thread in threads:
                thread.join()


def _told(files: Mapping[str, str]) -> Iterator[str]:
    """The packets in words, as tcpdump(8) has them; where it is not, where they are."""
    program = shutil.which("tcpdump")
    for interface, path in files.items():
        if program is None:
            yield f"{interface}: {os.path.basename(path)}"
            continue
        try:
            done = subprocess.run(
                [program, "-nn", "-tt", "-c", str(PACKETS), "-r", path],
                capture_output=True,
                timeout=DECODE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            continue
        for line in done.stdout.decode(errors="replace").splitlines():
            yield f"{interface}: {line}"
