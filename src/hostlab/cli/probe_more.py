"""`hostlab probe ssh`, `ntp`, `unix`, `bgp` and `ospf`."""

from __future__ import annotations

from typing import Any

import click

from hostlab.cli.probing import Asking, asked, asking_options, parsed, probe_options, seconds
from hostlab.cli.targets import complete_node
from hostlab.spec import probe_tables

_node = click.argument("node", shell_complete=complete_node)


@click.command("ssh", epilog="Example: hostlab probe ssh web1 --without ssh-rsa --from client")
@click.argument("server", callback=parsed(probe_tables.server))
@click.option("--banner", metavar="TEXT", help="Something its banner contains.")
@click.option("--without", multiple=True, metavar="WORD", help="What it must not offer.")
@probe_options
def ssh_command(*, asking: Asking, **said: Any) -> int:
    """Read the banner of SERVER and the algorithms that it offers."""
    return asked("ssh", said, asking)


@click.command("ntp", epilog="Example: hostlab probe ntp clock1 --offset 100ms --from web1")
@click.argument("server", callback=parsed(probe_tables.server))
@click.option("--stratum", type=click.IntRange(1, 15), help="The highest that will do.")
@click.option(
    "--offset",
    "offset_s",
    callback=seconds,
    metavar="TIME",
    help="How far from this clock its own may be.",
)
@probe_options
def ntp_command(*, asking: Asking, **said: Any) -> int:
    """Ask SERVER for the time, and tell how far it trusts itself."""
    return asked("ntp", said, asking)


@click.command("unix", epilog="Example: hostlab probe unix /run/app.sock --from web1")
@click.argument("path")
@click.option(
    "--type", type=click.Choice(["stream", "datagram", "seqpacket"]), help="Which it is to be."
)
@click.option("--send", metavar="TEXT", help="What to send.")
@click.option("--answer", metavar="REGEX", help="What the answer is to have somewhere.")
@probe_options
def unix_command(*, asking: Asking, answer: str | None, **said: Any) -> int:
    """Connect to the Unix socket at PATH, `@NAME` for an abstract one; its type is found."""
    import re

    if answer is not None:
        try:
            re.compile(answer)
        except re.error as error:
            raise click.BadParameter(f"--answer: {error}") from None
    return asked("unix", {**said, "answer": answer}, asking)


@click.command("bgp", epilog="Example: hostlab probe bgp r1 10.0.0.2")
@_node
@click.argument("peer", required=False, callback=parsed(probe_tables.host))
@click.option("--down", is_flag=True, help="Want it down instead of up.")
@asking_options
def bgp_command(*, node: str, peer: str | None, down: bool, asking: Asking) -> int:
    """Tell the state of NODE's session with PEER, or of all of them, as BIRD or FRR has it."""
    speaker = None if peer is None else {"name": peer, "addresses": [peer]}
    said = {"peer": speaker, "state": "down" if down else "up"}
    return asked("bgp_session", said, _of(node, asking))


@click.command("ospf", epilog="Example: hostlab probe ospf r1")
@_node
@click.argument("neighbour", required=False, callback=parsed(probe_tables.host))
@asking_options
def ospf_command(*, node: str, asking: Asking, **said: Any) -> int:
    """Tell the state of NODE's NEIGHBOUR, a router id, or of all of them."""
    return asked("ospf", said, _of(node, asking))


def _of(node: str, asking: Asking) -> Asking:
    return Asking(node, asking.timeout_s, asking.within_s, asking.as_json)
