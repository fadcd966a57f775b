"""How each kind of fault is done and taken back: one row a kind, as plans have their operations.

`look` finds out, and refuses; nothing is changed yet. What it returns is written down, and is all
that `undo` has: it may run in another process, after a crash at any instant of `apply`, twice, or
on a node that has died meanwhile and was made anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hostlab.errors import Unsupported
from hostlab.faults import certificates, files, filters, jobs, links, routers, routes, whole_nodes
from hostlab.faults.site import Site, State
from hostlab.spec.model import Fault


@dataclass(frozen=True, slots=True)
class Hands:
    """What is done for one kind."""

    look: Callable[[Site, Fault, int], State]
    apply: Callable[[Site, Fault, State], None]
    undo: Callable[[Site, Fault, State], None]


def _no_skew(site: Site, fault: Fault, number: int) -> State:
    offset = site.lab.node(fault.on).time_offset_s
    has = f"{fault.on}'s are {offset:+g} s since it is up, and " if offset else ""
    raise Unsupported(
        "clock",
        f"clocks cannot be set under a running node: {has}a time namespace takes its offsets"
        " before its first process",
        hint="`namespaces: {time: {offset: 1h}}` shifts monotonic and boot time from the start;"
        " the wall clock is the machine's own, only a kernel of its own has another",
    )


def _nothing(site: Site, fault: Fault, state: State) -> None:
    raise AssertionError("look refuses")


_FILTER: Final = Hands(filters.look, filters.apply, filters.undo)
_NAMES: Final = Hands(files.look_names, files.show, files.hide)

HANDS: Final = {
    "link-down": Hands(links.look, links.apply, links.undo),
    "one-way-loss": _FILTER,
    "partition": _FILTER,
    "node-cut-off": _FILTER,
    "port-filtered": _FILTER,
    "node-killed": Hands(whole_nodes.look_killed, whole_nodes.kill, whole_nodes.stage_again),
    "node-frozen": Hands(whole_nodes.look_frozen, whole_nodes.freeze, whole_nodes.thaw),
    "cpu-slow": Hands(whole_nodes.look_slow, whole_nodes.slow, whole_nodes.unbound),
    "memory-pressure": Hands(whole_nodes.look_memory, whole_nodes.press, whole_nodes.unbound),
    "job-killed": Hands(jobs.look, jobs.kill, jobs.start_again),
    "job-down": Hands(jobs.look, jobs.end, jobs.start_again),
    "job-stopped": Hands(jobs.look, jobs.stop, jobs.go_on),
    "descriptors-exhausted": Hands(jobs.look_descriptors, jobs.exhaust, jobs.relieve),
    "disk-full": Hands(files.look_full, files.fill, files.empty),
    "read-only": Hands(files.look_readonly, files.make_files_readonly, files.make_files_writable),
    "file-present": Hands(files.look_present, files.make_present, files.make_absent),
    "dns-slow": _NAMES,
    "dns-wrong": _NAMES,
    "certificate-expired": Hands(certificates.look, certificates.show, certificates.hide),
    "route-withdrawn": Hands(routes.look, routes.withdraw, routes.put_back),
    "bgp-session-reset": Hands(routers.look_reset, routers.reset, routers.comes_back),
    "announcement-withdrawn": Hands(routers.look_announced, routers.withhold, routers.announce),
    "clock-skew": Hands(_no_skew, _nothing, _nothing),
}
"""Every kind but `flap`, which is `link-down` several times."""
