"""`hostlab probe tcp`, `udp`, `icmp`: whether hosts and ports answer."""

from __future__ import annotations

from typing import Any

import click

from hostlab.cli.probing import Asking, asked, parsed, probe_options, seconds
from hostlab.spec import probe_tables


@click.command("tcp", epilog="Example: hostlab probe tcp web1:80,443 web2:8000-8010 --from client")
@click.argument("targets", nargs=-1, required=True, callback=parsed(probe_tables.ports_of))
@click.option(
    "--want",
    type=click.Choice(["open", "closed", "silent", "any"]),
    default="open",
    show_default=True,
    help="What every port is to be; closed is refused or unreachable.",
)
@click.option(
    "--at-once",
    type=click.IntRange(1, 1 << 16),
    help="So many handshakes under way at a time; 512, if you do not say.",
)
@probe_options
def tcp_command(*, asking: Asking, **said: Any) -> int:
    """Connect to each port of TARGETS, `HOST:PORTS`, many at once; each has --timeout."""
    return asked("tcp", said, asking)


@click.command("udp", epilog="Example: hostlab probe udp ns1:53 --from client")
@click.argument("target", callback=parsed(probe_tables.endpoint))
@click.option("--send", metavar="TEXT", help="What to send; a question of its protocol, else.")
@click.option("--answer", metavar="TEXT", help="Something the answer contains.")
@click.option(
    "--want",
    type=click.Choice(["answered", "refused", "silent"]),
    default="answered",
    show_default=True,
    help="What is to come of it.",
)
@probe_options
def udp_command(*, target: str, asking: Asking, **said: Any) -> int:
    """Send a datagram to TARGET, `HOST:PORT`, and wait for one.

    When nothing comes back, ports that nobody uses and an echo tell whether the way is filtered or
    somebody takes what is sent and says nothing.
    """
    host, _, port = target.rpartition(":")
    return asked("udp", {"host": host.strip("[]"), "port": int(port), **said}, asking)


@click.command("icmp", epilog="Example: hostlab probe icmp web1 web2 --count 5 --from client")
@click.argument("hosts", nargs=-1, required=True, callback=parsed(probe_tables.host))
@click.option("--count", type=click.IntRange(1, 1000), help="How many echoes each.")
@click.option("--loss", type=click.FloatRange(0, 1), help="The share that may be lost, as 0.2.")
@click.option("--rtt", "rtt_s", callback=seconds, metavar="TIME", help="The median's most.")
@probe_options
def icmp_command(*, asking: Asking, **said: Any) -> int:
    """Send echoes to HOSTS, many at once."""
    return asked("ping", said, asking)
