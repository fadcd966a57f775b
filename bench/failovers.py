"""How long a service is away: the same faults, survived in different ways.

    python -m bench.failovers [FLAVOUR …] [--fault NAME …] [--runs N] [--labs K] [--json] [--write]

A flavour is a shipped example with a service that a client asks for, what each fault is there, and
how long theory says that the service is away. `hostlab fault measure` measures it; a lab stays up
for all runs, and several labs of a flavour are measured at once where the machine has the cores.
A run that cannot be made is told and counted; its lab is staged anew, and the others go on.
`--write` puts the measured lines into the table of docs/failover.md; the others stay.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from bench import machine, ours
from hostlab.errors import Problem
from hostlab.faults.outage import Outage, Spread, spread
from hostlab.lab.description import read_lab
from hostlab.sync import Lab

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = ROOT / "docs/failover.md"
ROWS: Final = (
    "nginx stopped",
    "node frozen",
    "node killed",
    "link cut",
    "load balancer killed",
    "router killed",
    "route server killed",
    "drained",
)
"""The faults, in the order of the table; a flavour has those that it can have."""
READY_S: Final = "180s"
"""So long a lab may take until all is as it should be, before a fault and after it."""
ATTEMPTS: Final = 3
"""So often the runs of a case are tried in a lab that is staged anew each time."""


@dataclass(frozen=True)
class Case:
    """A fault of a flavour."""

    fault: str
    """As `hostlab fault measure` takes it; several with `;`."""
    theory: str
    options: tuple[str, ...] = ()
    """More words for `hostlab fault measure`."""


@dataclass(frozen=True)
class Flavour:
    """A way of surviving faults."""

    title: str
    example: str
    """Relative to `examples`."""
    cases: Mapping[str, Case]
    """By the names of `ROWS`."""
    request: tuple[str, ...]
    """Who asks for what, in words of `hostlab fault measure`."""
    programs: tuple[str, ...] = ()
    rate: int = 200
    """Requests a second."""


def _refused_or_silent(refused: str, silent: str) -> dict[str, Case]:
    return {
        "nginx stopped": Case("job-down web1/nginx", refused),
        "node frozen": Case("node-frozen web1", silent),
        "node killed": Case("node-killed web1", silent),
        "link cut": Case("link-down web1:eth0", silent),
    }


FLAVOURS: Final[dict[str, Flavour]] = {
    "vrrp": Flavour(
        "VRRP",
        "vrrp/vrrp.yaml",
        _refused_or_silent(
            "0.12 s: an event, then the backup's skew time",
            "0.52–0.72 s: 3 × 200 ms + 0.12 s, less what has passed since the last advertisement",
        ),
        ("--from", "client", "--get", "http://10.3.0.100/", "--first", "web1", "--then", "web2"),
        ("keepalived", "nginx"),
    ),
    "loadbalancer": Flavour(
        "load balancers",
        "loadbalancer/loadbalancer.yaml",
        {
            "nginx stopped": Case("job-down web1/nginx", "0: refused, so sent to another server"),
            "node frozen": Case(
                "node-frozen web1",
                "0.65–0.90 s for a third of the requests: its kernel still takes connections,"
                " until two checks of 200 ms have failed, 250 ms apart",
            ),
            "node killed": Case(
                "node-killed web1", "0: sent to another server, at most 200 ms later"
            ),
            "link cut": Case(
                "link-down web1:eth0", "0: sent to another server, at most 200 ms later"
            ),
            "load balancer killed": Case("node-killed lb1", "0.52–0.72 s, as with VRRP"),
        },
        ("--from", "client", "--get", "http://10.4.0.100/", "--first", "web1,web2,web3"),
        ("keepalived", "haproxy", "nginx"),
    ),
    "router": Flavour(
        "a router's health check",
        "failover/failover.yaml",
        {
            "nginx stopped": Case(
                "job-down web1/web", "0.2–0.3 s: three checks, 100 ms apart, refused at once"
            ),
            "node frozen": Case(
                "node-frozen web1", "1.1–1.2 s: three checks of 300 ms, 100 ms apart"
            ),
            "node killed": Case(
                "node-killed web1", "1.1–1.2 s: three checks of 300 ms, 100 ms apart"
            ),
            "link cut": Case(
                "link-down web1:eth0", "1.1–1.2 s: three checks of 300 ms, 100 ms apart"
            ),
        },
        ("--from", "client", "--get", "http://10.9.9.9/", "--first", "web1", "--then", "web2"),
        # Its servers are Python's.
        rate=50,
    ),
}


def _anycast(checked: str, heard: str, moved: str) -> dict[str, Case]:
    then = ("--then", "w3")
    return {
        "nginx stopped": Case("job-down w1/nginx", checked, then),
        "node frozen": Case("node-frozen w1", heard, then),
        "node killed": Case(
            "node-killed w1", f"0.1 s: its kernel closes the sessions; else {heard}", then
        ),
        "link cut": Case("link-down w1:eth0", heard, then),
        "router killed": Case("node-killed dr6", heard, then),
        "route server killed": Case("node-killed rs4", "0: the other one tells the same"),
        # A segment that is lost on the way is sent again after a second.
        "drained": Case(
            "file-present w1 path=/run/drain", f"0; moved {moved}", (*then, "--timeout", "5s")
        ),
    }


_ANYCAST_PROGRAMS: Final = ("bird", "vtysh", "exabgp", "nginx", "nft", "curl")
FLAVOURS["anycast"] = Flavour(
    "anycast, the notebook's timers",
    "anycast/anycast.yaml",
    _anycast(
        "2–7 s: up to 5 s to the next check, then two more, 1 s apart",
        "4–6 s: hold time of 6 s, a message every 2 s",
        "within 5 s",
    ),
    ("--from", "client", "--get", "http://[2001:db8:30::3]/", "--first", "w1"),
    _ANYCAST_PROGRAMS,
)
FLAVOURS["anycast-tuned"] = Flavour(
    "anycast, tuned",
    "anycast/tuned.yaml",
    _anycast(
        "0.1 s: an event of init's, then BGP's update",
        "0.6–0.7 s: BFD, 7 × 100 ms",
        "at once",
    ),
    ("--from", "client", "--get", "http://[2001:db8:30::3]/", "--first", "w1"),
    _ANYCAST_PROGRAMS,
)


class Line(msgspec.Struct, frozen=True):
    """A fault of a flavour, measured."""

    fault: str
    flavour: str
    theory: str
    runs: int
    recovered: int
    outage_s: Spread | None
    failed: Spread | None
    sent: int
    left_out: int
    not_made: int
    """Runs that were wanted, and could not begin or not be seen to their end."""


def measured(fault: str, flavour: Flavour, runs: Sequence[Outage], *, wanted: int) -> Line:
    """What runs of one case come to; those that did not recover have no outage."""
    return Line(
        fault=fault,
        flavour=flavour.title,
        theory=flavour.cases[fault].theory,
        runs=len(runs),
        recovered=sum(run.recovered for run in runs),
        outage_s=spread([run.outage_s for run in runs if run.outage_s is not None]),
        failed=spread([run.failed for run in runs]),
        sent=sum(run.sent for run in runs),
        left_out=sum(run.left_out for run in runs),
        not_made=wanted - len(runs),
    )


HEADER: Final = (
    "| fault | survived by | in theory | shortest | median | p95 | longest | failed | runs |",
    "|---|---|---|---|---|---|---|---|---|",
)
_TABLE: Final = re.compile(r"(?<=<!-- failovers -->\n\n).*?(?=\n<!-- end -->)", re.S)


def cells(line: Line) -> str:
    """A line of the table."""
    times: tuple[str, ...] = ("-",) * 4
    if line.outage_s is not None:
        found = line.outage_s
        times = tuple(f"{value:.3f} s" for value in (found.min, found.median, found.p95, found.max))
    failed = "-" if line.failed is None else f"{line.failed.median:g}"
    runs = str(line.runs)
    if line.recovered < line.runs:
        runs += f", {line.runs - line.recovered} did not recover"
    if line.not_made:
        runs += f", {line.not_made} could not be made"
    return f"| {' | '.join((line.fault, line.flavour, line.theory, *times, failed, runs))} |"


def with_lines(page: str, lines: Sequence[Line], where: str) -> str:
    """The page, in which these lines stand for those of the same fault and flavour.

    `where` is a sentence about the machine that they were measured on.
    """
    found = _TABLE.search(page)
    assert found is not None
    rows: dict[tuple[str, str], str] = {}
    for text in found[0].splitlines()[len(HEADER) :]:
        if not text.startswith("|"):
            break
        fault, flavour = (each.strip() for each in text.split("|")[1:3])
        rows[fault, flavour] = text
    rows |= {(line.fault, line.flavour): cells(line) for line in lines}
    ordered = sorted(rows, key=lambda key: ROWS.index(key[0]))
    table = "\n".join((*HEADER, *(rows[key] for key in ordered), "", where)) + "\n"
    return page[: found.start()] + table + page[found.end() :]


def where() -> str:
    """How busy this machine is."""
    load = os.getloadavg()[2]
    return f"Last measured with a load of {load:.0f} on {os.cpu_count()} processors."


class Place:
    """A lab in which runs are made one after the other; up for the length of the block."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab.name
        self._lab = lab
        self._staging = threading.Lock()
        self._is_closed = False

    def __enter__(self) -> Place:
        self._stage()
        return self

    def __exit__(self, *_: object) -> None:
        with self._staging:
            self._is_closed = True
            self._lab.down()

    def _stage(self) -> None:
        """Stage it anew, unless it has gone for good. That it routes is waited for by a run."""
        with self._staging:
            if not self._is_closed:
                self._lab.down()
                self._lab.up(wait_s=0)

    def measure(self, flavour: Flavour, fault: str, runs: int) -> list[Outage]:
        """Some runs of one case; fewer when it has failed too often, each time of which is told."""
        found: list[Outage] = []
        for attempt in range(ATTEMPTS):
            try:
                if attempt:
                    self._stage()
                found += measure(self.lab, flavour, fault, runs - len(found))
            except (RuntimeError, Problem, OSError) as error:
                print(f"{self.lab}: {fault}: {error}", file=sys.stderr, flush=True)
            if len(found) == runs or self._is_closed:
                break
        return found


@contextlib.contextmanager
def places(flavour: Flavour, count: int) -> Iterator[list[Place]]:
    """Several labs of a flavour, up, by names of this process' own."""
    found = read_lab(str(ROOT / "examples" / flavour.example))
    labs = [
        msgspec.structs.replace(found, name=f"{found.name}-{os.getpid()}-{n}") for n in range(count)
    ]
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Place(Lab(lab))) for lab in labs]


def measure(lab: str, flavour: Flavour, fault: str, runs: int) -> list[Outage]:
    """Some runs of one case, by the command line; fewer when one could not be made, which is told.

    RuntimeError with what it said when there was none.
    """
    case = flavour.cases[fault]
    words = [*case.fault.split(";"), *flavour.request, *case.options]
    words += ["--lab", lab, "--runs", str(runs), "--rate", str(flavour.rate)]
    words += ["--wait", READY_S, "--json"]
    hostlab = str(Path(sys.executable).parent / "hostlab")
    done = subprocess.run(
        [hostlab, "fault", "measure", *words], capture_output=True, text=True, check=False
    )
    if not done.stdout:
        raise RuntimeError(f"{shlex.join(words)}: {done.stderr.strip()}")
    if done.stderr:
        print(f"{lab}: {fault}: {done.stderr.strip()}", file=sys.stderr, flush=True)
    said: dict[str, Any] = json.loads(done.stdout)
    return msgspec.convert(said["runs"], list[Outage])


def missing(flavour: Flavour) -> str | None:
    """Why a flavour cannot be measured here."""
    absent = [each for each in flavour.programs if shutil.which(each, path=_path()) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


def _path() -> str:
    return os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))


def lines_of(flavour: Flavour, faults: Sequence[str], *, runs: int, count: int) -> Iterator[Line]:
    """Every case of a flavour, `runs` times over `count` labs."""
    shares = [runs // count + (n < runs % count) for n in range(count)]
    # Ended early, the labs go down first, which ends those who measure in them.
    with ThreadPoolExecutor(count) as pool, places(flavour, count) as found:
        for fault in (each for each in ROWS if each in flavour.cases and each in faults):
            parts = [
                pool.submit(place.measure, flavour, fault, share)
                for place, share in zip(found, shares, strict=True)
                if share
            ]
            made = [run for part in parts for run in part.result()]
            yield measured(fault, flavour, made, wanted=runs)


def main(arguments: Sequence[str]) -> int:
    """Exit status 0; 1 when a run did not recover, or could not be made."""
    parser = argparse.ArgumentParser(prog="python -m bench.failovers")
    parser.add_argument("flavours", nargs="*", metavar="FLAVOUR", help=f"of {', '.join(FLAVOURS)}")
    parser.add_argument("--fault", action="append", choices=ROWS, help="only this one")
    parser.add_argument("--runs", type=int, default=10, help="of each fault")
    parser.add_argument("--labs", type=int, default=1, help="so many at once of a flavour")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--write", action="store_true", help="write docs/failover.md")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.flavours if name not in FLAVOURS]:
        parser.error(f"no flavour {unknown[0]}: there are {', '.join(FLAVOURS)}")
    if options.runs < 1 or options.labs < 1:
        parser.error("--runs and --labs are at least 1")
    # Ended by force, it still takes down what it has up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    ours.volatile_run_directory()
    found: list[Line] = []
    is_whole = True
    for name in options.flavours or FLAVOURS:
        flavour = FLAVOURS[name]
        if why := missing(flavour):
            print(f"{name}: {why}", file=sys.stderr)
            continue
        try:
            for line in lines_of(
                flavour, options.fault or ROWS, runs=options.runs, count=options.labs
            ):
                found.append(line)
                if not options.json:
                    print(cells(line), flush=True)
        except Problem as error:
            print(f"{name}: {error}", file=sys.stderr)
            is_whole = False
    if options.json:
        print(msgspec.json.encode({"machine": machine.describe(), "lines": found}).decode())
    if options.write:
        PAGE.write_text(with_lines(PAGE.read_text(), found, where()))
    is_whole &= all(line.recovered == line.runs and not line.not_made for line in found)
    return int(not found or not is_whole)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
