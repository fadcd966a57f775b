"""`hostlab probe udplite`: between two nodes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click

from hostlab import typed
from hostlab.cli.output import json_option
from hostlab.cli.probing import parsed, seconds, show
from hostlab.cli.targets import complete_node, one_node
from hostlab.errors import Failed, UsageError
from hostlab.spec import probe_tables

if TYPE_CHECKING:
    from hostlab.api import Node
    from hostlab.checks.inside import Inside
    from hostlab.probes.udplite import Reply, Request

_GRACE_S: Final = 10.0
"""What an answer from inside may be late, on a busy machine."""


@click.command("udplite", epilog="Example: hostlab probe udplite db web --coverage 20")
@click.argument("sender", metavar="A", shell_complete=complete_node)
@click.argument("receiver", metavar="B", shell_complete=complete_node)
@click.option(
    "--to",
    "address",
    callback=parsed(probe_tables.host),
    metavar="HOST",
    help="Where A sends to, when it is not B: what a NAT node translates to B.",
)
@click.option("--port", type=click.IntRange(1, 65535), default=10000, show_default=True)
@click.option(
    "--coverage",
    type=click.IntRange(8, 72),
    default=20,
    show_default=True,
    help="How many bytes the checksum covers, the header's 8 included, of 72.",
)
@click.option(
    "--required",
    type=click.IntRange(0, 72),
    metavar="BYTES",
    help="What B demands; as much as --coverage, if you do not say.",
)
@click.option("--raw", is_flag=True, help="By raw sockets, as where the kernel has no UDP-Lite.")
@click.option("--timeout", callback=seconds, default="5s", show_default=True, metavar="TIME")
@json_option
def udplite_command(
    sender: str,
    receiver: str,
    *,
    address: str | None,
    port: int,
    coverage: int,
    required: int | None,
    raw: bool,
    timeout: float,
    as_json: bool,
) -> int:
    """Tell what becomes of UDP-Lite from node A to node B (RFC 3828).

    Four datagrams: a whole one; one damaged behind what its checksum covers, which must arrive; one
    damaged within, and one that covers less than B demands, which must not. Linux 7.1 has no
    UDP-Lite any more: there, raw sockets do at both ends what the kernel did.
    """
    from hostlab.probes import udplite

    one, other = one_node(sender), one_node(receiver)
    demanded = coverage if required is None else required
    if demanded > coverage:
        hint = "then nothing would arrive"
        raise UsageError("usage", "--required is more than --coverage", hint=hint)
    request = udplite.Request(
        do="",
        host=address or _address(other),
        port=port,
        coverage=coverage,
        required=demanded,
        raw=raw,
        nonce=udplite.new_nonce(),
        timeout_s=timeout,
    )
    started = time.monotonic()
    reply, request, lacking = _played(one, other, request)
    took_s = time.monotonic() - started
    return _judged(one, request, reply, took_s, lacking=lacking, as_json=as_json)


def _address(node: Node) -> str:
    from hostlab.lab.description import staged

    described = staged(node.lab)
    assert described is not None
    for interface in described.node(node.name).interfaces:
        for address in interface.addresses:
            return address.partition("/")[0]
    raise UsageError("udplite", f"{node.name} has no address")


def _played(one: Node, other: Node, request: Request) -> tuple[Reply, Request, bool]:
    """What arrived, how it was asked in the end, and whether the kernel lacks UDP-Lite."""
    import msgspec

    from hostlab.checks.inside import Crew
    from hostlab.probes.udplite import Ends

    with (
        Crew(Ends().answer) as crew,
        crew.enter(other.pid) as receiver,
        crew.enter(one.pid) as sender,
    ):
        bound = _call(receiver, msgspec.structs.replace(request, do="bind"))
        lacking = bound.lacks_kernel and not request.raw
        if lacking:
            request = msgspec.structs.replace(request, raw=True)
            bound = _call(receiver, msgspec.structs.replace(request, do="bind"))
        if bound.problem:
            raise Failed("udplite", f"{other.name} cannot receive: {bound.problem}")
        sent = _call(sender, msgspec.structs.replace(request, do="send"))
        if sent.problem:
            raise Failed("udplite", f"{one.name} cannot send: {sent.problem}")
        return _call(receiver, msgspec.structs.replace(request, do="collect")), request, lacking


def _call(inside: Inside, request: Request) -> Reply:
    import msgspec

    from hostlab.probes.udplite import Reply

    answer = inside.call(msgspec.json.encode(request), request.timeout_s + _GRACE_S)
    if answer is None:
        raise Failed("udplite", "no answer from inside the node")
    return typed.decode(answer, Reply)


def _judged(
    one: Node, request: Request, reply: Reply, took_s: float, *, lacking: bool, as_json: bool
) -> int:
    from hostlab.checks.verdict import Outcome, Report, Verdict
    from hostlab.probes.udplite import DATAGRAM_BYTES, LEAST_COVERAGE, MUST_ARRIVE, Case

    asked = dict(MUST_ARRIVE)
    if request.coverage == DATAGRAM_BYTES:
        del asked[Case.OUTSIDE]
    if request.required <= LEAST_COVERAGE:
        del asked[Case.SHORT]
    log = []
    facts: dict[str, Any] = {"raw": request.raw, "kernel_lacks_udplite": lacking, "datagrams": {}}
    wrong = []
    for case, must in asked.items():
        did = case in reply.arrived
        words = "arrived" if did else "did not arrive"
        log.append(f"{case}: {words}" + ("" if did == must else ", and it must" +
                                         ("" if must else " not")))  # fmt: skip
        facts["datagrams"][case] = {"arrived": did, "must_arrive": must}
        if did != must:
            wrong.append(f"{case} {words}")
    if lacking:
        log.append("the kernel has no UDP-Lite (Linux dropped it in 7.1): this was by raw sockets")
    text = "; ".join(wrong) or f"all {len(asked)} datagrams fared as RFC 3828 says"
    row = Verdict(
        node=one.name,
        kind="udplite",
        check=f"udplite: {request.host}:{request.port}, {request.coverage} bytes covered",
        outcome=Outcome.FAILS if wrong else Outcome.HOLDS,
        expected="whole datagrams and harmless damage to arrive, and nothing else",
        seen=text + (" (by raw sockets)" if request.raw else ""),
        within_s=request.timeout_s,
        took_s=took_s,
        log=tuple(log),
        facts=facts,
    )
    report = Report(rows=(row,), took_s=took_s)
    show(report, as_json=as_json)
    return report.exit_code
