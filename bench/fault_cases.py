"""A fault and its clearing, beside the kernel operation that it is (issue 7, "Speed").

What is above the operation is the look at the lab, the journal, and a child for each namespace.
"""

from __future__ import annotations

import functools
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from bench import ours
from bench.measure import Benchmark, Contender, Metrics, Target
from hostlab.faults.filters import load
from hostlab.faults.hands import HANDS
from hostlab.faults.injecting import clear, inject
from hostlab.faults.site import Site, State, visiting
from hostlab.linux import cgroups, rtnetlink
from hostlab.linux.mounts import make_readonly, make_writable
from hostlab.linux.netlink import Netlink
from hostlab.spec.faults import parse
from hostlab.spec.model import Fault

TIMES: Final = 20
ABOVE_MS: Final = 5.0
FROZEN_S: Final = 60.0
TABLE: Final = "bench"
RULES: Final = (
    f"table bridge {TABLE} {{\nchain forward {{\ntype filter hook forward priority -400;\n"
    'iifname "p0" drop\niifname "p0w" drop\noifname "p0" drop\noifname "p0w" drop\n}\n}\n'
)


KINDS: Final = ("freeze", "stop", "link", "readonly", "rule")


def faults_case(times: int = TIMES) -> Benchmark:
    """One fault for each kernel's way: a write to a cgroup, a signal, a netlink message, a mount's
    flag, a transaction of nftables. The other kinds go the same ways.
    """
    return Benchmark(
        name="faults",
        title="inject a fault and clear it",
        contenders=(Contender("hostlab", functools.partial(_faults, times), _missing),),
        targets=tuple(Target(f"{name}_above_ms", ABOVE_MS) for name in KINDS),
    )


def _missing() -> str | None:
    if os.geteuid() != 0 or cgroups.find().unified is None:
        return "needs root and cgroup v2, for a node that is frozen"
    return ours.lab_missing()


def _faults(times: int) -> Metrics:
    found: dict[str, float] = {}
    with ours.staged(2, 1, job="sleep infinity") as running:
        site = Site.of(running.name)
        node = site.lab.nodes[0].name
        interface = site.lab.nodes[0].interfaces[0].name
        words = {
            "freeze": f"node-frozen {node}",
            "stop": f"job-stopped {node}/work",
            "readonly": f"read-only {node}",
            "link": f"link-down {node}:{interface}",
            "rule": f"node-cut-off {node}",
        }
        with _alone(site, node, interface) as alone:
            for name, text in words.items():
                wanted = parse(text.split(), site.lab)
                # By turns, so that a machine that gets slower slows both.
                pairs = [
                    (_ms(functools.partial(_both, site, wanted)), alone[name]())
                    for _ in range(times)
                ]
                whole, least = (statistics.median(each) for each in zip(*pairs, strict=True))
                found |= {
                    f"{name}_ms": whole,
                    f"{name}_alone_ms": least,
                    f"{name}_above_ms": max(whole - least, 0.001),
                }
    return found


def _both(site: Site, wanted: Sequence[Fault]) -> None:
    inject(site, wanted)
    clear(site)


@contextmanager
def _alone(site: Site, node: str, interface: str) -> Iterator[Mapping[str, Callable[[], float]]]:
    """The same done to the same things by who knows them, and is there, already; milliseconds."""
    group = f"{site.unified}/{node}"
    port = site.ports([(node, interface)])[node, interface]
    with visiting(site.hub):
        netlink = Netlink()

    def freeze() -> None:
        for frozen in (True, False):
            cgroups.freeze(group, frozen=frozen, timeout_s=FROZEN_S)

    def link() -> None:
        for up in (False, True):
            netlink.request([rtnetlink.link_set(port, up=up)])

    def rule() -> None:
        load(site.hub, RULES)
        load(site.hub, f"delete table bridge {TABLE}\n")

    stopped = _looked_at(site, f"job-stopped {node}/work")["processes"][0][0]
    files = _looked_at(site, f"read-only {node}")["mount"].encode()

    def stop() -> None:
        for number in (signal.SIGSTOP, signal.SIGCONT):
            os.kill(stopped, number)

    def readonly() -> None:
        make_readonly(files)
        make_writable(files)

    with netlink:
        yield {
            "freeze": lambda: _ms(freeze),
            "stop": lambda: _ms(stop),
            "link": lambda: _ms(link),
            "readonly": lambda: float(site.in_files(node, lambda: _ms(readonly))),
            "rule": lambda: _ms(rule),
        }


def _looked_at(site: Site, text: str) -> State:
    """What must be known of a fault before it is done."""
    (fault,) = parse(text.split(), site.lab)
    return HANDS[fault.kind].look(site, fault, 1)


def _ms(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1e3


FAULT_CASES: Mapping[str, Callable[[], Benchmark]] = {"faults": faults_case}
