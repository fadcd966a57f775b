"""A node's PIM as the configuration of Debian's pimd."""

from __future__ import annotations

from typing import Final

from hostlab.spec.routing import Pim, PimEngine, Routing
from hostlab.spec.routing_lines import Line, Writer

DIRECTORY: Final = "/run/pimd"
CONFIG: Final = f"{DIRECTORY}/pimd.conf"
NAME: Final = "pimd"
"""The job, and the program."""
_ADVERTISED_S: Final = 30
"""How often a candidate says that it is there. It is forgotten after 2.5 times that, and told of
every 30 s by the elected router: with less it would be forgotten between two of those messages."""
_HIGHEST: Final = 255
_QUERY_S: Final = 5
"""How often IGMP asks who is in a group; the least that it takes."""


def pim_of(routing: Routing | None) -> Pim | None:
    """What pimd is to do; None where it does not run."""
    pim = None if routing is None else routing.pim
    return pim if pim is not None and pim.engine is PimEngine.PIMD else None


def render(node: str, pim: Pim) -> list[Line]:
    """The lines; it runs with `-N`, so that it speaks on no other interface than those here."""
    out = Writer("", "")
    out.add(f"# The multicast routing of {node}, as its description says: hostlab makes it anew.")
    with out.at(pim.place):
        out.add(*(f"phyint {name} enable" for name in pim.interfaces))
        if pim.candidate is not None:
            # Of routers that would hand out the list the highest number wins, of those on it the
            # lowest.
            out.add(f"bsr-candidate {pim.address} priority {pim.candidate}")
            priority = _HIGHEST - pim.candidate
            out.add(f"rp-candidate {pim.address} time {_ADVERTISED_S} priority {priority}")
            out.add(*(f"group-prefix {prefix}" for prefix in pim.groups))
        # It asks for 10 s to answer in; asked more often, somebody answers sooner.
        out.add(f"igmp-query-interval {_QUERY_S}")
        # The first packet by way of the rendez-vous point is enough to go the short way.
        out.add("spt-threshold packets 0 interval 5")
    return out.lines
