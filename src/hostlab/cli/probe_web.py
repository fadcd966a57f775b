"""`hostlab probe http` and `tls`."""

from __future__ import annotations

import os
from typing import Any

import click

from hostlab.cli.probing import Asking, Command, asked, parsed, probe_options
from hostlab.spec import forms, probe_tables, units
from hostlab.spec.source import Wrong


def _certificate_options(function: Command) -> Command:
    function = click.option(
        "--days", type=click.FloatRange(0), help="For how many days it has to be good yet."
    )(function)
    function = click.option(
        "--authorities",
        type=click.Path(),
        metavar="FILE",
        help="Certificates to trust instead of the host's own; a file of the node with --from.",
    )(function)
    return click.option(
        "--no-verify", "verify", is_flag=True, flag_value=False, default=True,
        help="Any certificate will do.",
    )(function)  # fmt: skip


def _pairs(_ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> Any:
    """`NAME: VALUE`s of headers, `HOST[:PORT]:ADDRESS`es, as a mapping."""
    is_header = parameter.name == "headers"
    found = {}
    for text in value:
        name, separator, rest = text.partition(":") if is_header else _at_address(text)
        if not separator or not name.strip():
            form = "NAME: VALUE" if is_header else "HOST[:PORT]:ADDRESS"
            raise click.BadParameter(f"{text!r} is not {form}")
        found[name.strip()] = rest.strip()
    return found or None


def _at_address(text: str) -> tuple[str, str, str]:
    if text.endswith("]"):
        name, separator, rest = text.rpartition(":[")
        address = rest.removesuffix("]")
    else:
        name, separator, address = text.rpartition(":")
    try:
        return name, separator, str(units.address(address))
    except Wrong:
        return "", "", ""


@click.command("http", epilog="Example: hostlab probe http https://web1/ --days 14 --from client")
@click.argument("url", callback=parsed(forms.url))
@click.option("--status", type=click.IntRange(100, 599), help="The status wanted; 200, else.")
@click.option("--body", metavar="TEXT", help="Something the body contains.")
@click.option("--location", metavar="URL", help="Where it redirects to.")
@click.option("--follow", is_flag=True, help="Follow redirects.")
@click.option("--method", metavar="WORD", help="GET, if you do not say.")
@click.option("--header", "headers", multiple=True, callback=_pairs, metavar="NAME:VALUE")
@click.option(
    "--resolve",
    multiple=True,
    callback=_pairs,
    metavar="HOST[:PORT]:ADDRESS",
    help="Take this address for the host, and ask for the name all the same.",
)
@_certificate_options
@probe_options
def http_command(*, asking: Asking, **said: Any) -> int:
    """Get a page, and tell its status, redirects and certificate."""
    if said["authorities"] and asking.nodes is None:
        said["authorities"] = os.path.abspath(said["authorities"])
    return asked("http", said, asking)


@click.command("tls", epilog="Example: hostlab probe tls web1:443 --days 14 --from client")
@click.argument("server", callback=parsed(probe_tables.server))
@click.option("--name", metavar="HOST", help="The name to ask for; the server's, else.")
@click.option("--names", multiple=True, metavar="NAME", help="What it has to be for, beside.")
@click.option("--least", type=click.Choice(["TLSv1.2", "TLSv1.3"]), help="The oldest version.")
@click.option("--alpn", multiple=True, metavar="WORD", help="Protocols to offer, as h2.")
@_certificate_options
@probe_options
def tls_command(*, asking: Asking, **said: Any) -> int:
    """Shake hands with SERVER, `HOST:PORT`, and tell its version and certificate."""
    if said["authorities"] and asking.nodes is None:
        said["authorities"] = os.path.abspath(said["authorities"])
    return asked("tls", said, asking)
