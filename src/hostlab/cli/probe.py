"""`hostlab probe`: a question to a host, from this machine or from inside a node."""

from __future__ import annotations

from typing import Final

import click

from hostlab.cli.lazy import LazyGroup

COMMANDS: Final = {
    "tcp": ("probe_ports", "Connect to ports, many at once."),
    "udp": ("probe_ports", "Send a datagram, and tell filtered from silent."),
    "icmp": ("probe_ports", "Send echoes, to many hosts at once."),
    "scan": ("probe_scan", "Find a node's ports that are open, as each segment sees it."),
    "http": ("probe_web", "Get a page: redirects, certificate, another address."),
    "tls": ("probe_web", "Shake hands: version, certificate, its names and dates."),
    "dns": ("probe_dns", "Ask name servers, compare them, for a client's subnet, from the root."),
    "smtp": ("probe_mail", "Talk to a mail server, word for word; find open relays."),
    "ssh": ("probe_more", "Read a server's banner and what it offers."),
    "ntp": ("probe_more", "Ask a server for the time."),
    "unix": ("probe_more", "Connect to a Unix socket, whatever its type is."),
    "udplite": ("probe_udplite", "Tell what becomes of UDP-Lite and its damage on the way."),
    "bgp": ("probe_more", "Tell a node's sessions of BGP, from its daemon."),
    "ospf": ("probe_more", "Tell a node's neighbours of OSPF, from its daemon."),
}
"""Command -> (module, one line of help)."""


@click.group(
    "probe",
    cls=LazyGroup,
    lazily=COMMANDS,
    epilog="Example: hostlab probe tcp web1:80,443 --from client",
)
def probe_command() -> None:
    """Ask a host one thing, from this machine or, with --from, from inside nodes; exit 1 if the
    answer is not as wanted.

    Exit 2 if the question cannot be meant, 3 if it cannot be judged. No process is started in a
    node. Each probe is a kind of check as well: what is asked here can stand in a description.
    """
