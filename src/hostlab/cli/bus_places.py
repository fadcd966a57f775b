"""Which bus a command means, and to be where it is: a node's is asked from inside the node."""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import CompletionItem

from hostlab.cli.output import json_option
from hostlab.cli.targets import complete_node, one_node
from hostlab.errors import Problem, UsageError

if TYPE_CHECKING:
    from hostlab.observe.bus import Buses

TIMEOUT_S: Final = 25.0
"""What D-Bus's own tools wait for an answer."""
COMPLETES_WITHIN_S: Final = 2.0
NAMESPACES: Final = ("user", "mnt", "net")

Work = Callable[["Buses"], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Where:
    """A bus, and the process beside which it is asked."""

    address: str
    pid: int | None = None


def bus_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--system`, `--session`, `--address` and `--node`, which come as `where`; and `--json`."""

    @functools.wraps(function)
    def chosen(
        *args: Any, is_session: bool, address: str | None, node: str | None, **options: Any
    ) -> Any:
        options.pop("is_system")
        return function(*args, where=where_of(address, node, is_session=is_session), **options)

    wrapped: Callable[..., Any] = chosen
    for option in (
        json_option,
        click.option("--address", metavar="ADDRESS", help="The bus at this address."),
        click.option(
            "-n", "--node", help="The system bus of a node.", shell_complete=complete_node
        ),
        click.option("--session", "is_session", is_flag=True, help="The session's bus."),
        click.option("--system", "is_system", is_flag=True, help="The system's bus (the default)."),
    ):
        wrapped = option(wrapped)
    return wrapped


def where_of(address: str | None, node: str | None, *, is_session: bool) -> Where:
    """The bus that is meant; UsageError when it cannot be told."""
    from hostlab.init.dbus.places import SYSTEM_BUS, address_of

    if is_session and (address or node):
        raise UsageError("which-bus", "--session is a bus of its own: without --address and --node")
    if node is not None:
        return Where(address or SYSTEM_BUS, one_node(node).pid)
    if address is not None:
        return Where(address)
    found = address_of("session" if is_session else "system", os.environ)
    if found is None:
        hint = "say DBUS_SESSION_BUS_ADDRESS, or --address"
        raise UsageError("which-bus", "this session has told of no bus", hint=hint)
    return Where(found)


def ask(where: Where, work: Work, *, timeout_s: float | None = TIMEOUT_S) -> int:
    """Do work on a bus; its exit status."""
    from hostlab.cli.main import guarded

    if where.pid is None:
        return _answer(where.address, work, timeout_s)
    pidfd = os.pidfd_open(where.pid)
    # Output that is not written yet must not be written by both.
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 4
        try:
            status = guarded(lambda: _inside(where, pidfd, work, timeout_s))
            sys.stdout.flush()
        finally:
            os._exit(status)
    os.close(pidfd)
    return _status_of(child)


def _status_of(child: int) -> int:
    while True:
        try:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        except KeyboardInterrupt:
            # The child was sent it too, and ends.
            continue


def _inside(where: Where, pidfd: int, work: Work, timeout_s: float | None) -> int:
    # A node may have no files to load this from.
    import hostlab.observe.bus  # noqa: F401
    from hostlab.linux.entering import enter_namespaces

    assert where.pid is not None
    enter_namespaces(where.pid, pidfd, NAMESPACES)
    return _answer(where.address, work, timeout_s)


def _answer(address: str, work: Work, timeout_s: float | None) -> int:
    from hostlab.errors import Failed
    from hostlab.observe.bus import opened

    async def run() -> Any:
        async with opened(address) as buses:
            return await work(buses)

    async def run_in_time() -> Any:
        try:
            async with asyncio.timeout(timeout_s):
                return await run()
        except TimeoutError:
            raise Failed("timeout", f"no answer within {timeout_s:g} s") from None

    result = asyncio.run(run_in_time())
    return result if isinstance(result, int) else 0


# Completion: silent whatever happens, and soon over.


def complete_name(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names on the bus that the command line means so far, whole or by their last word."""

    async def work(buses: Buses) -> list[str]:
        found = [owner.name for owner in await buses.names() if not owner.name.startswith(":")]
        short = [name.rpartition(".")[2] for name in found]
        return [*found, *(name for name in short if incomplete and short.count(name) == 1)]

    return _completed(ctx, work, incomplete)


def complete_words(kind: str, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Paths, methods (`kind` is `method`) or properties of the name that stands before."""
    words = tuple(ctx.params.get("words") or ())

    async def work(buses: Buses) -> list[str]:
        from hostlab.observe.bus import STANDARD

        name = await buses.name(ctx.params["name"])
        path = words[0] if words else None
        found: list[str] = []
        if path is None:
            found += [where async for where, tree in buses.objects(name) if tree.interfaces]
        if incomplete.startswith("/"):
            return found
        async for where, tree in buses.objects(name):
            for interface in tree.interfaces if path in (None, where) else ():
                members = interface.methods if kind == "method" else interface.properties
                if interface.name not in STANDARD:
                    found += [member.name for member in members]
                    found += [f"{interface.name}.{member.name}" for member in members]
        return found

    return _completed(ctx, work, incomplete)


def _completed(
    ctx: click.Context, work: Callable[[Buses], Awaitable[list[str]]], incomplete: str
) -> list[CompletionItem]:
    options = ctx.params
    try:
        where = where_of(
            options.get("address"), options.get("node"), is_session=bool(options.get("is_session"))
        )
        found = _words_from(where, work)
    except (Problem, OSError):
        return []
    return [CompletionItem(each) for each in dict.fromkeys(found) if each.startswith(incomplete)]


def _words_from(where: Where, work: Callable[[Buses], Awaitable[list[str]]]) -> list[str]:
    from hostlab.linux.entering import ANSWER_BYTES, from_inside

    words: list[str] = []

    async def gather(buses: Buses) -> int:
        words[:] = await work(buses)
        return 0

    if where.pid is None:
        _answer(where.address, gather, COMPLETES_WITHIN_S)
        return words

    import hostlab.observe.bus  # noqa: F401

    def inside() -> tuple[bytes, list[int]]:
        try:
            _answer(where.address, gather, COMPLETES_WITHIN_S)
        except Problem:
            words.clear()
        return "\n".join(words).encode()[: ANSWER_BYTES // 2], []

    data, _ = from_inside(where.pid, NAMESPACES, inside)
    return data.decode(errors="ignore").splitlines()
