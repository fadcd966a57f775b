"""`hostlab probe dns`."""

from __future__ import annotations

from typing import Any

import click

from hostlab.cli.probing import Asking, asked, parsed, probe_options
from hostlab.spec import probe_tables, units


def _subnet(word: str) -> str:
    return str(units.network(word))


@click.command("dns", epilog="Example: hostlab probe dns www.example.com MX --server ns1 --from r1")
@click.argument("name", callback=parsed(probe_tables.domain))
@click.argument("type", default="A", callback=parsed(probe_tables.record))
@click.option(
    "--server",
    "servers",
    multiple=True,
    callback=parsed(probe_tables.server),
    metavar="HOST[:PORT]",
    help="Whom to ask; several are compared.",
)
@click.option(
    "--subnet",
    "subnets",
    multiple=True,
    callback=parsed(_subnet),
    metavar="PREFIX",
    help="Ask for a client of this network (EDNS), each.",
)
@click.option("--distinct", is_flag=True, help="Each subnet is to have another answer.")
@click.option("--scope", type=click.IntRange(0, 128), help="For so many bits it has to hold.")
@click.option("--answer", multiple=True, metavar="DATA", help="Exactly these records.")
@click.option("--rcode", metavar="CODE", help="As NXDOMAIN; NOERROR, if you do not say.")
@click.option("--tcp", is_flag=True, help="By TCP; else only what does not fit a datagram.")
@click.option(
    "--no-recursion",
    "recursion",
    is_flag=True,
    flag_value=False,
    default=True,
    help="The server is to tell what it has, and ask nobody.",
)
@click.option("--authoritative", is_flag=True, help="The server must have authority.")
@click.option("--dnssec", is_flag=True, help="With signatures.")
@click.option("--trace", is_flag=True, help="From the root, or --server, down.")
@probe_options
def dns_command(*, asking: Asking, answer: tuple[str, ...], **said: Any) -> int:
    """Ask name servers for records of NAME.

    Several servers must say the same. An MX record that names an address is told as an error.
    Needs the extra `dns`.
    """
    from hostlab.probes import dns

    dns.load()
    if said["rcode"]:
        said["rcode"] = said["rcode"].upper()
    return asked("dns", {**said, "answer": answer or None}, asking)
