"""Many TCP handshakes and echoes from one node to another (issue 8, "Speed").

Every port is closed, so that each handshake is a question and an answer of two kernels, and nothing
but whoever asks takes time. nmap is told to be as fast as it can, and to look for nothing else.
fping's shortest pause, 1 ms, is kept: without one it sends faster than it listens, and loses all.
"""

from __future__ import annotations

import functools
import os
import shutil
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from bench import ours
from bench.measure import Benchmark, Contender, Metrics, Target
from hostlab import spec
from hostlab.checks.judge import judge
from hostlab.spec.model import Check
from hostlab.sync import Lab, Node

PORTS: Final = 10_000
ECHOES: Final = 1000
"""The most that one check sends to a host."""
TIMES: Final = 2
DEADLINE_S: Final = 300.0
LAB: Final = "name: bench-probes-{pid}\nsegments: {{lan: 10.9.0.0/24}}\nnodes: {{a: , b: }}\n"


def probes_case(ports: int = PORTS, times: int = TIMES) -> Benchmark:
    """As many ports of a host, and as many echoes."""
    return Benchmark(
        name="probes",
        title=f"{ports:,} TCP probes, and {times * ECHOES:,} echoes, from a node to another",
        contenders=(
            Contender("hostlab", functools.partial(_ours, ports, times), ours.lab_missing),
            Contender("nmap", functools.partial(_nmap, ports), functools.partial(_lacks, "nmap")),
            Contender(
                "fping",
                functools.partial(_fping, times * ECHOES),
                functools.partial(_lacks, "fping"),
            ),
        ),
        targets=(Target("tcp_s", 1.0, "nmap"), Target("icmp_s", 1.0, "fping")),
    )


def _lacks(program: str) -> str | None:
    return None if shutil.which(program) else f"apt-get install {program}"


def _lab() -> Lab:
    return Lab(spec.load(LAB.format(pid=os.getpid()), file="bench.yaml", directory="/"))


def _ours(ports: int, times: int) -> Metrics:
    with _lab() as lab:
        wake(lab["a"])
        tcp = _judged(lab, "tcp", targets=[f"10.9.0.2:1-{ports}"], want="closed")
        icmp = sum(_judged(lab, "ping", hosts=["10.9.0.2"], count=ECHOES) for _ in range(times))
    return {"tcp_s": tcp, "icmp_s": icmp}


def wake(node: Node) -> None:
    """Its supervisor is started by the first command: that is no probe's time."""
    node.succeed("true")


def _judged(lab: Lab, kind: str, **arguments: Any) -> float:
    """How long it takes, entering the node included."""
    check = Check(nodes=("a",), kind=kind, arguments=arguments, within_s=DEADLINE_S)
    begin = time.perf_counter()
    report = judge([check], lab.nodes(), once=True)
    took_s = time.perf_counter() - begin
    assert report.ok, "\n".join(map(str, report.rows))
    return took_s


def _nmap(ports: int) -> Metrics:
    words = f"nmap -n -Pn -sT -T5 --min-parallelism 512 -p 1-{ports} 10.9.0.2"
    return {"tcp_s": _timed(words, f"{ports}")}


def _fping(echoes: int) -> Metrics:
    return {"icmp_s": _timed(f"fping -q -i 0 -p 1 -c {echoes} 10.9.0.2 2>&1", f"{echoes}/{echoes}")}


def _timed(words: str, expected: str) -> float:
    """How long a program in the node takes; it must have asked so much."""
    with _lab() as lab:
        node = lab["a"]
        wake(node)
        begin = time.perf_counter()
        printed = node.succeed(words, timeout_s=DEADLINE_S)
        took_s = time.perf_counter() - begin
    assert expected in printed, printed
    return took_s


PROBE_CASES: Mapping[str, Callable[[], Benchmark]] = {"probes": probes_case}
