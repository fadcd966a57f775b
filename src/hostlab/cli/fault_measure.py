"""`hostlab fault measure`: how long a service is away when something breaks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from hostlab.cli.output import clock, coloured, json_option, print_json, print_table
from hostlab.cli.targets import complete_lab, only_lab
from hostlab.errors import UsageError
from hostlab.terminal import plain

if TYPE_CHECKING:
    from hostlab.checks.requests import Probe
    from hostlab.faults.outage import Outage
    from hostlab.faults.site import Site
    from hostlab.spec.model import TimedFault


@click.command(
    "measure",
    epilog="Example: hostlab fault measure 'node-frozen web1' --from client"
    " --get http://10.0.0.100/ --runs 10",
)
@click.argument("faults", nargs=-1, metavar="['KIND TARGET [NAME=VALUE]…'…]")
@click.option("--from", "node", required=True, help="The node that sends the requests.")
@click.option("--get", metavar="URL", help="Get this page, by a new connection each time.")
@click.option("--ping", metavar="ADDRESS", help="Send ICMP echo requests.")
@click.option("--udp", metavar="HOST:PORT", help="Send a datagram; any answer is a good one.")
@click.option("--header", metavar="NAME", help="Who answers stands in this header of the page.")
@click.option("--rate", type=float, default=100.0, show_default=True, help="Requests a second.")
@click.option("--timeout", default="1s", show_default=True, help="Later is no good answer.")
@click.option("--runs", type=click.IntRange(1, 100_000), default=1, show_default=True)
@click.option(
    "--settle", default="1s", show_default=True, help="So long all must be good, to go on."
)
@click.option(
    "--wait", default="60s", show_default=True, help="So long it is waited for that at most."
)
@click.option("--first", metavar="NAME[,…]", help="A run begins when these, and only they, answer.")
@click.option(
    "--then", metavar="NAME[,…]", help="A run goes on until these, and only they, answer."
)
@click.option("-f", "--follow", is_flag=True, help="Tell what changes, with the time.")
@click.option("--within", help="Exit 1 when a run takes longer, from the fault to the first good.")
@click.option(
    "-l", "--lab", help="Needed only where several labs are up.", shell_complete=complete_lab
)
@json_option
def measure_command(
    faults: tuple[str, ...],
    *,
    node: str,
    get: str | None,
    ping: str | None,
    udp: str | None,
    header: str | None,
    rate: float,
    timeout: str,
    runs: int,
    settle: str,
    wait: str,
    first: str | None,
    then: str | None,
    follow: bool,
    within: str | None,
    lab: str | None,
    as_json: bool,
) -> int:
    """Send requests from a node, break something, and tell how long nobody answered.

    All faults are done at once; without any, the timeline of the description is played. Each run
    ends when all is good again, whoever answers; then all is mended, and the next one begins when
    the routing has converged, unless faults stand already, and those who answered at first are
    back. Exit 1 if a run does not get that far.
    """
    from hostlab.faults.measuring import measure
    from hostlab.faults.site import Site
    from hostlab.lab.access import known_node

    probe = _probe(
        {"get": get, "ping": ping, "udp": udp}, header=header, rate=rate, timeout=timeout
    )
    settle_s, wait_s = _seconds("--settle", settle), _seconds("--wait", wait)
    if wait_s < settle_s:
        message = f"--wait {wait}: nothing is good for --settle {settle} by then"
        raise UsageError("time", message)
    within_s = None if within is None else _seconds("--within", within)
    site = Site.of(lab if lab is not None else only_lab())
    known_node([each.name for each in site.lab.nodes], node, site.lab.name)
    timeline = _timeline(site, faults)
    found: list[Outage] = []
    course = measure(
        site,
        timeline,
        probe,
        node=node,
        runs=runs,
        settle_s=settle_s,
        wait_s=wait_s,
        first=_names_said(first),
        then=_names_said(then),
        tell=_tell if follow and not as_json else None,
    )
    try:
        for each in course:
            found.append(each)
            if not as_json:
                print(line(each, within_s), flush=True)
    finally:
        # What has been measured is told, whatever comes then.
        if as_json and found:
            print_json(_as_json(site, timeline, probe, node, found))
        elif len(found) > 1:
            _print_spreads(found)
    return int(not all(_is_good(each, within_s) for each in found))


def _names_said(text: str | None) -> frozenset[str] | None:
    return None if text is None else frozenset(text.split(","))


def _tell(at: float, text: str) -> None:
    print(f"  {clock(at)}  {plain(text)}", flush=True)


def _probe(
    said: Mapping[str, str | None], *, header: str | None, rate: float, timeout: str
) -> Probe:
    from hostlab.checks.requests import MOST_PER_S, How, Probe

    wanted = [(how, target) for how, target in said.items() if target is not None]
    if len(wanted) != 1:
        hint = "for example `--get http://10.0.0.100/`"
        raise UsageError("request", "one of --get, --ping and --udp is needed", hint=hint)
    if not 0 < rate <= MOST_PER_S:
        raise UsageError("rate", f"{rate:g} requests a second: above 0, up to {MOST_PER_S:g}")
    ((how, target),) = wanted
    if header is not None and how != How.GET:
        raise UsageError("request", f"--header is about a page, and --{how} gets none")
    timeout_s = _seconds("--timeout", timeout)
    return Probe(how=How(how), target=target, rate=rate, timeout_s=timeout_s, header=header)


def _seconds(name: str, text: str) -> float:
    from hostlab.spec import units
    from hostlab.spec.source import Wrong

    try:
        seconds = units.duration(text)
    except Wrong as wrong:
        raise UsageError("time", f"{name}: {wrong.message}", hint=wrong.hint) from None
    if not seconds:
        raise UsageError("time", f"{name}: more than no time is needed")
    return seconds


def _timeline(site: Site, faults: Sequence[str]) -> Sequence[TimedFault]:
    from hostlab.spec.fault_timeline import timeline_contradiction
    from hostlab.spec.faults import parse_line
    from hostlab.spec.model import TimedFault

    if not faults:
        if not site.lab.faults:
            hint = "for example: `hostlab fault measure 'link-down web1:eth0' …`"
            raise UsageError("no-fault", f"lab {site.lab.name} has no `faults:`", hint=hint)
        return site.lab.faults
    wanted = [fault for text in faults for fault in parse_line(text, site.lab)]
    timeline = [TimedFault(at_s=0.0, fault=fault) for fault in wanted]
    trouble = timeline_contradiction(timeline, site.lab)
    if trouble is not None:
        raise UsageError("contradiction", f"{trouble[0]}: {trouble[1]}")
    return timeline


def _is_good(found: Outage, within_s: float | None) -> bool:
    if found.first_good_s is None:
        return False
    return within_s is None or found.first_good_s <= within_s


def line(found: Outage, within_s: float | None = None) -> str:
    """A run in one line, and one for each way in which requests failed."""
    before, after = _names(found.before), _names(found.after)
    counts = f"{found.failed} of {found.sent} requests failed"
    if found.left_out:
        counts += f", {found.left_out} could not be sent in time"
    if found.first_good_s is None:
        text = f"{before} answered, and it was not all good again in time; {counts}"
    else:
        who = f"{before}, then {after}" if before != after else before
        text = (
            f"{who}: last good {_signed(found.last_good_s)},"
            f" first good {_signed(found.first_good_s)}, outage {_signed(found.outage_s)}; {counts}"
        )
    mark = coloured("✓", good=True) if _is_good(found, within_s) else coloured("✗", good=False)
    lines = [f"{mark} run {found.number}: {text}"]
    lines += [f"    {count} × {plain(error)}" for error, count in found.errors.items()]
    return "\n".join(lines)


def _names(who: Mapping[str, int]) -> str:
    return plain(" and ".join(sorted(name or "somebody" for name in who)) or "nobody")


def _signed(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.3f} s"


def _print_spreads(found: Iterable[Outage]) -> None:
    from hostlab.faults.outage import spreads

    rows = [
        (name, *(_figure(name, value) for value in (x.min, x.median, x.p95, x.max)))
        for name, x in spreads(found).items()
        if x is not None
    ]
    print_table(("", "MIN", "MEDIAN", "P95", "MAX"), rows)


def _figure(name: str, value: float) -> str:
    return f"{value:g}" if name == "failed" else _signed(value)


def _as_json(
    site: Site,
    timeline: Sequence[TimedFault],
    probe: Probe,
    node: str,
    found: Sequence[Outage],
) -> dict[str, Any]:
    from hostlab.faults.outage import FIGURES, spreads

    return {
        "lab": site.lab.name,
        "from": node,
        "request": probe,
        "timeline": [
            {"at_s": each.at_s, "fault": str(each.fault), "for_s": each.for_s} for each in timeline
        ],
        "runs": found,
        "spread": {FIGURES[name]: each for name, each in spreads(found).items()},
    }
