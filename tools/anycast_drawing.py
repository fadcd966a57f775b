"""Who serves which address of a running anycast lab, drawn as text and as an SVG.

    python tools/anycast_drawing.py LAB [--svg FILE]

The client asks each address, and each route server is asked for its table: nothing is drawn from
what the description says but the places of the nodes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from hostlab.checks.inside import Crew
from hostlab.errors import Problem
from hostlab.faults import injecting
from hostlab.faults.site import Site
from hostlab.routing.rib import Path as BgpPath
from hostlab.routing.rib import Rib
from hostlab.sync import Lab

ADDRESSES: Final = tuple(f"2001:db8:30::{n}" for n in (1, 2, 3))
SERVERS: Final = ("rs4", "rs5")
WEB: Final = ("w1", "w2", "w3")
PATIENCE_S: Final = 60.0
PLACES: Final = {
    "client": (50, 175), "r1": (165, 175), "er2": (280, 115), "er3": (280, 235),
    "rs4": (425, 330), "dr6": (545, 70), "dr7": (545, 175), "dr8": (545, 280),
    "w1": (680, 70), "w2": (680, 175), "w3": (680, 280), "rs5": (680, 350),
}  # fmt: skip
_LINES: Final = (
    ("client", "r1"), ("r1", "er2"), ("r1", "er3"), ("dr6", "w1"), ("dr7", "w2"), ("dr8", "w3"),
    ("dr8", "rs5"),
)  # fmt: skip
_CORE_X: Final = 425
_ON_CORE: Final = ("er2", "er3", "dr6", "dr7", "dr8")


@dataclass
class Seen:
    """What is so at an instant."""

    served: Mapping[str, str] = field(default_factory=dict)
    """By address: who answers the client; empty when nobody does."""
    metrics: Mapping[str, Mapping[str, Mapping[str, int | None]]] = field(default_factory=dict)
    """By route server and address: the metric that each web node tells."""
    away: frozenset[str] = frozenset()
    """Nodes that are not there, or frozen."""


def look(lab: Lab) -> Seen:
    """Ask the client and the route servers."""
    away = _away(lab)
    names = {
        address.partition("/")[0]: node.name
        for node in lab.description.nodes
        for interface in node.interfaces
        for address in interface.addresses
    }
    metrics: dict[str, dict[str, dict[str, int | None]]] = {}
    with Crew(_paths) as crew:
        for server in SERVERS:
            if server in away:
                continue
            with crew.enter(lab[server].pid) as inside:
                metrics[server] = {}
                for address in ADDRESSES:
                    said = inside.call(f"{address}/128".encode(), PATIENCE_S)
                    found = msgspec.json.decode(said or b"[]", type=list[BgpPath])
                    metrics[server][address] = {
                        names.get(each.peer, each.peer): each.med for each in found
                    }
    return Seen({a: _who(lab, a) for a in ADDRESSES}, metrics, away)


def _away(lab: Lab) -> frozenset[str]:
    """Those that are dead, and those that somebody has frozen or cut off."""
    broken = {each.fault.on for each in injecting.injected(Site.of(lab.name))}
    return frozenset(name for name in PLACES if name in broken or name not in lab.nodes())


def _who(lab: Lab, address: str) -> str:
    done = lab["client"].run(f"curl -s --max-time 2 http://[{address}]/", timeout_s=PATIENCE_S)
    return done.stdout.decode().strip()


def _paths(request: bytes) -> bytes:
    with closing(Rib()) as rib:
        return msgspec.json.encode(rib.paths(request.decode()))


def text(seen: Seen) -> str:
    """The lab, and the route servers' tables, for a terminal."""
    held = {name: [a for a in ADDRESSES if seen.served.get(a) == name] for name in WEB}
    mark = {
        name: f"({name})".ljust(len(name) + 2) if name in seen.away else f" {name} "
        for name in PLACES
    }
    web = {name: f"{mark[name]} {', '.join(held[name])}".rstrip() for name in WEB}
    drawing = [
        f"{'':18}┌─{mark['er2']}─┐        ┌─{mark['dr6']}───{web['w1']}",
        f"{mark['client']}───{mark['r1']}───┤       ├─ core ─┼─{mark['dr7']}───{web['w2']}",
        f"{'':18}└─{mark['er3']}─┘   │    └─{mark['dr8']}─┬─{web['w3']}",
        f"{'':28}{mark['rs4']}{'':10}└─{mark['rs5']}".rstrip(),
    ]
    nobody = [address for address in ADDRESSES if not seen.served.get(address)]
    if nobody:
        drawing.append(f"nobody serves {', '.join(nobody)}")
    rows = [f"{'':23}" + "".join(f"{name:>8}" for name in WEB)] if seen.metrics else []
    for address in ADDRESSES:
        for server, tables in seen.metrics.items():
            told = tables.get(address, {})
            cells = "".join(f"{'-' if told.get(n) is None else told[n]:>8}" for n in WEB)
            rows.append(f"{address:16} {server:6}{cells}")
    return "\n".join([*drawing, "", *rows])


_STYLE: Final = """
    :root { color-scheme: light dark; }
    .paper { fill: #ffffff; } text { fill: #1f2328; } .soft { fill: #59636e; font-size: 12px; }
    .node { fill: #ffffff; stroke: #6a9ed4; } .server { fill: #d7f0df; stroke: #2c8a4b; }
    .away { fill: #f3f3f3; stroke: #b0b0b0; stroke-dasharray: 4 3; }
    .wire { stroke: #2f6fb3; stroke-width: 2; } .path { stroke: #2c8a4b; stroke-width: 4; }
    @media (prefers-color-scheme: dark) {
      .paper { fill: #0d1117; } text { fill: #e6edf3; } .soft { fill: #9aa4ae; }
      .node { fill: #0d1117; } .server { fill: #12361f; } .away { fill: #22272e; }
    }
"""


def svg(seen: Seen) -> str:
    """The same as a drawing."""
    held = {name: [a for a in ADDRESSES if seen.served.get(a) == name] for name in WEB}
    told = "; ".join(f"{address} by {who or 'nobody'}" for address, who in seen.served.items())
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 400" role="img"'
        ' aria-labelledby="title desc" font-family="system-ui, sans-serif" font-size="14">',
        '  <title id="title">The anycast lab</title>',
        '  <desc id="desc">A client behind r1; the edge routers er2 and er3 and the distribution'
        " routers dr6, dr7 and dr8 on the core, a web node behind each of the latter; the route"
        f" servers rs4 on the core and rs5 behind dr8. Served: {told}.</desc>",
        f"  <style>{_STYLE}  </style>",
        '  <rect class="paper" width="880" height="400"/>',
        f'  <path class="wire" d="M{_CORE_X} 50 V330"/>',
        f'  <text class="soft" x="{_CORE_X - 16}" y="40">core</text>',
    ]
    lines = [*_LINES, *((name, "") for name in (*_ON_CORE, "rs4"))]
    for one, other in lines:
        x, y = PLACES[one]
        to_x, to_y = PLACES[other] if other else (_CORE_X, y)
        kind = "path" if other in WEB and held[other] else "wire"
        parts.append(f'  <line class="{kind}" x1="{x}" y1="{y}" x2="{to_x}" y2="{to_y}"/>')
    for name, (x, y) in PLACES.items():
        kind = "away" if name in seen.away else "server" if held.get(name) else "node"
        parts.append(
            f'  <rect class="{kind}" x="{x - 30}" y="{y - 16}" width="60" height="32" rx="6"/>'
        )
        parts.append(f'  <text x="{x}" y="{y + 5}" text-anchor="middle">{name}</text>')
        for number, address in enumerate(held.get(name, ())):
            parts.append(f'  <text x="{x + 40}" y="{y + 5 + 18 * number}">{address}</text>')
    return "\n".join([*parts, "</svg>", ""])


AS_DESCRIBED: Final = Seen({ADDRESSES[0]: "w3", ADDRESSES[1]: "w2", ADDRESSES[2]: "w1"})
"""When nothing is broken; docs/anycast.svg."""


def main(arguments: list[str]) -> int:
    """Exit status 0; 3 when the lab cannot be asked."""
    parser = argparse.ArgumentParser(description="who serves which address")
    parser.add_argument("lab")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write a drawing, too")
    options = parser.parse_args(arguments)
    try:
        seen = look(Lab(options.lab))
    except (Problem, OSError) as error:
        print(f"anycast_drawing: {error}", file=sys.stderr)
        return 3
    print(text(seen))
    if options.svg is not None:
        options.svg.write_text(svg(seen))
        print(f"drawn: {options.svg}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
