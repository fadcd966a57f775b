"""`hostlab talk`: a dialogue with a server, by hand or by a script."""

from __future__ import annotations

import errno
import json
import socket
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from hostlab.cli.output import coloured, json_option, print_json
from hostlab.cli.probing import from_option, parsed, seconds
from hostlab.cli.targets import one_node
from hostlab.errors import Failed
from hostlab.spec import probe_tables
from hostlab.terminal import plain

if TYPE_CHECKING:
    from hostlab.probes.talking import Act, Heard

_EOLS: Final = {"crlf": b"\r\n", "lf": b"\n", "none": b""}
_INSIDE: Final = ("user", "mnt", "net")
_HEX_BYTES: Final = 16


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        json_option,
        from_option,
        click.option("--linger", callback=seconds, default="1s", show_default=True,
                     metavar="TIME", help="How long to listen when the input has ended."),
        click.option("--timeout", callback=seconds, default="10s", show_default=True,
                     metavar="TIME", help="How long each act of a script may take."),
        click.option("--eol", type=click.Choice(list(_EOLS)), help="What ends a line that is"
                     " sent: crlf, and lf on Unix sockets, if you do not say."),
        click.option("--show", type=click.Choice(["text", "json", "hex"]), default="text",
                     show_default=True, help="How what comes is shown."),
        click.option("--script", type=click.File("r"), metavar="FILE", help="Acts, one a line."),
        click.option("-e", "acts", multiple=True, metavar="ACT",
                     help="`expect REGEX`, `send TEXT`, `sendhex BYTES`, `close`; in order."),
    ):  # fmt: skip
        function = option(function)
    return function


@click.group("talk", epilog="Example: hostlab talk tcp mail1:25 --from client")
def talk_command() -> None:
    """Talk to a server by hand, or by a script of `expect` and `send`.

    Lines of standard input are sent, what comes is printed; with `-e` or `--script`, exit 1 when
    what is expected does not come. The connection is made inside a node with --from.
    """


@talk_command.command(
    "tcp", epilog="Example: hostlab talk tcp mail1:25 -e 'expect ^220 ' -e 'send QUIT'"
)
@click.argument("target", callback=parsed(probe_tables.endpoint))
@_options
def tcp_command(target: str, **said: Any) -> int:
    """Talk over TCP to TARGET, `HOST:PORT`."""
    host, _, port = target.rpartition(":")
    work = _tcp(host.strip("[]"), int(port), said["timeout"])
    return _talk(lambda: _opened(said["nodes"], work), said, eol="crlf")


@talk_command.command("tls", epilog="Example: hostlab talk tls web1:443 --from client")
@click.argument("target", callback=parsed(probe_tables.endpoint))
@click.option("--name", metavar="HOST", help="The name to ask for; the server's, else.")
@click.option(
    "--no-verify",
    "verify",
    is_flag=True,
    flag_value=False,
    default=True,
    help="Any certificate will do.",
)
@click.option(
    "--authorities",
    type=click.Path(exists=True),
    metavar="FILE",
    help="This machine's file of certificates to trust.",
)
@_options
def tls_command(
    target: str, *, name: str | None, verify: bool, authorities: str | None, **said: Any
) -> int:
    """Talk over TLS to TARGET, `HOST:PORT`."""
    from hostlab.probes.stream import over_tls, tls_context

    host, _, port = target.rpartition(":")
    host = host.strip("[]")
    until = time.monotonic() + said["timeout"]

    def opened() -> socket.socket:
        sock = _opened(said["nodes"], _tcp(host, int(port), said["timeout"]))
        with sock:
            try:
                context = tls_context(verify=verify, authorities=authorities)
                return over_tls(sock, name or host, until, context)
            except ssl.SSLCertVerificationError as error:
                hint = "--no-verify takes any certificate, --authorities names those to trust"
                text = f"the certificate is refused: {error.verify_message}"
                raise Failed("talk", text, hint=hint) from None
            except OSError as error:
                raise Failed("talk", f"no TLS: {error.strerror or error}") from None

    return _talk(opened, said, eol="crlf")


@talk_command.command("unix", epilog="Example: hostlab talk unix /run/app.sock --from web1")
@click.argument("path")
@_options
def unix_command(path: str, **said: Any) -> int:
    """Talk to the Unix socket at PATH, `@NAME` for an abstract one.

    Its type is found by trying. Descriptors that come are shown, and closed.
    """
    from hostlab.probes import unix

    timeout_s = said["timeout"]

    def work() -> tuple[bytes, Sequence[int]]:
        sock, kind = unix.connect(path, timeout_s=timeout_s)
        return kind.encode(), [sock.detach()]

    return _talk(lambda: _opened(said["nodes"], work), said, eol="lf")


def _tcp(host: str, port: int, timeout_s: float) -> Callable[[], tuple[bytes, Sequence[int]]]:
    from hostlab.probes.names import UnknownName
    from hostlab.probes.stream import connect

    def work() -> tuple[bytes, Sequence[int]]:
        try:
            sock, address = connect(host, port, time.monotonic() + timeout_s)
        except UnknownName as error:
            raise OSError(errno.ENXIO, str(error)) from None
        return address.encode(), [sock.detach()]

    return work


def _opened(node: str | None, work: Callable[[], tuple[bytes, Sequence[int]]]) -> socket.socket:
    """A connected socket, made inside the node or here."""
    from hostlab.linux.entering import from_inside

    try:
        _, fds = work() if node is None else from_inside(one_node(node).pid, _INSIDE, work)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        raise Failed("talk", f"no connection: {place}{error.strerror or error}") from None
    return socket.socket(fileno=fds[0])


def _talk(opened: Callable[[], socket.socket], said: dict[str, Any], *, eol: str) -> int:
    from hostlab.probes.talking import Conversation, Unexpected, parse

    ending = _EOLS[said["eol"] or eol]
    script: list[Act] = []
    if said["script"] is not None:
        script += parse(said["script"], said["script"].name, eol=ending)
    script += parse(said["acts"], "-e", eol=ending)
    heard: list[Heard] = []
    show = heard.append if said["as_json"] else _shower(said["show"], echo=bool(script))
    problem = ""
    with opened() as sock:
        conversation = Conversation(sock, show)
        try:
            if script:
                conversation.play(script, timeout_s=said["timeout"])
            else:
                source = sys.stdin.fileno() if sys.stdin else -1
                conversation.by_hand(source, eol=ending, linger_s=said["linger"])
        except (Unexpected, OSError) as error:
            problem = str(error)
    if said["as_json"]:
        lines = [{"sender": each.sender, "text": each.data.decode(errors="replace"),
                  "hex": each.data.hex()} for each in heard]  # fmt: skip
        print_json({"ok": not problem, "problem": problem, "transcript": lines})
    elif problem:
        print(f"{coloured('✗', good=False)} {plain(problem)}")
    return 1 if problem else 0


def _shower(how: str, *, echo: bool) -> Callable[[Heard], None]:
    """Prints what is said; what a person has typed is on the terminal already."""

    def show(heard: Heard) -> None:
        if heard.sender == ">" and not echo:
            return
        marks = f"{heard.sender} " if echo or heard.sender == "*" else ""
        for line in _lines(heard, how):
            print(f"{marks}{line}", flush=True)

    return show


def _lines(heard: Heard, how: str) -> list[str]:
    if how == "hex" and heard.sender != "*":
        return [
            f"{at:06x}  {part.hex(' '):<47}  {''.join(map(_visible, part))}"
            for at in range(0, len(heard.data), _HEX_BYTES)
            for part in (heard.data[at : at + _HEX_BYTES],)
        ]
    text = heard.data.decode(errors="replace")
    if how == "json" and heard.sender == "<":
        try:
            values = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError:
            return [plain(line) for line in text.splitlines()]
        return [
            line
            for value in values
            for line in plain(json.dumps(value, indent=2, ensure_ascii=False)).splitlines()
        ]
    return [plain(line) for line in text.splitlines()]


def _visible(byte: int) -> str:
    return chr(byte) if 32 <= byte < 127 else "."
