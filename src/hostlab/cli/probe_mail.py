"""`hostlab probe smtp`."""

from __future__ import annotations

from typing import IO, Any

import click

from hostlab.cli.probing import Asking, asked, parsed, patient_probe_options
from hostlab.errors import UsageError
from hostlab.spec import probe_tables


@click.command("smtp", epilog="Example: hostlab probe smtp mail1 --relay --from stranger")
@click.argument("server", callback=parsed(probe_tables.server))
@click.option("--relay", is_flag=True, help="Try to have strangers' mail carried to strangers.")
@click.option(
    "--tls",
    type=click.Choice(["none", "starttls", "implicit"]),
    default="none",
    show_default=True,
    help="The way to TLS; implicit is port 465.",
)
@click.option(
    "--no-verify",
    "verify",
    is_flag=True,
    flag_value=False,
    default=True,
    help="Any certificate will do.",
)
@click.option("--helo", is_flag=True, help="Say HELO instead of EHLO.")
@click.option("--name", metavar="HOST", help="What the client calls itself.")
@click.option("--user", metavar="NAME", help="Log in.")
@click.option(
    "--password",
    envvar="HOSTLAB_PASSWORD",
    metavar="WORD",
    help="Better by the environment, HOSTLAB_PASSWORD.",
)
@click.option("--auth", type=click.Choice(["PLAIN", "LOGIN"]), help="How; what is offered, else.")
@click.option(
    "--mail-from",
    "sender",
    metavar="ADDRESS",
    callback=parsed(probe_tables.mailbox),
    help="The sender; empty is a bounce.",
)
@click.option(
    "--rcpt-to",
    "recipients",
    multiple=True,
    metavar="ADDRESS",
    callback=parsed(probe_tables.mailbox),
    help="A recipient.",
)
@click.option("--size", "size_bytes", type=click.IntRange(0), help="Announce this size.")
@click.option("--8bitmime", "eight_bit", is_flag=True, help="Announce 8BITMIME.")
@click.option(
    "--data",
    type=click.File("r", errors="surrogateescape"),
    metavar="FILE",
    help="Send this mail, `-` is standard input; else it stops before DATA.",
)
@click.option("--refused", is_flag=True, help="Some step is to be refused.")
@click.option("--offers", multiple=True, metavar="WORD", help="An extension that EHLO must name.")
@patient_probe_options
def smtp_command(*, asking: Asking, data: IO[str] | None, **said: Any) -> int:
    """Talk to a mail server as far as the envelope, and show every word.

    With --relay, the sender and the recipient are strangers to the server, and some twenty ways to
    write them are tried: none may be taken. Nothing is sent in either case without --data.
    """
    if said["user"] is not None and said["password"] is None:
        hint = "HOSTLAB_PASSWORD=… or --password"
        raise UsageError("usage", "--user needs a password", hint=hint)
    if said["relay"] and said["refused"]:
        raise UsageError("usage", "--relay wants every form refused: it goes without --refused")
    content = None if data is None else data.read()
    return asked("smtp", {**said, "content": content}, asking)
