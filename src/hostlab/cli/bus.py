"""Commands that ask a message bus."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from hostlab.cli.bus_places import (
    TIMEOUT_S,
    Where,
    ask,
    bus_options,
    complete_name,
    complete_words,
)
from hostlab.cli.output import print_json, print_table
from hostlab.errors import Failed, UsageError

if TYPE_CHECKING:
    from hostlab.init.dbus.library import Message
    from hostlab.observe.bus import Buses

_HEADER = ("NAME", "PID", "PROCESS", "UID", "CONNECTION")


def _complete_method(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return complete_words("method", ctx, incomplete)


def _complete_property(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return complete_words("property", ctx, incomplete)


_name = click.argument("name", shell_complete=complete_name)
_property = click.argument(
    "words",
    nargs=-1,
    required=True,
    metavar="[PATH] [INTERFACE.]PROPERTY",
    shell_complete=_complete_property,
)


@click.group("bus", epilog="Example: hostlab bus call login1 ListSessions")
def bus_command() -> None:
    """Ask a message bus: who is there, what they have, what it is worth, what they can do.

    NAME may be shortened to its last word, or any part that only one name has. The path and the
    interface are found, and need saying only where several objects have the same member.
    """


@bus_command.command("names", epilog="Example: hostlab bus names --node alice")
@click.option("-a", "--all", "with_unique", is_flag=True, help="Connections without a name, too.")
@bus_options
def names_command(*, with_unique: bool, where: Where, as_json: bool) -> int:
    """List the names on a bus, and who has them; `activatable` ones are started when called."""

    async def work(buses: Buses) -> None:
        found = [o for o in await buses.names() if with_unique or not o.name.startswith(":")]
        if as_json:
            print_json(
                [
                    {
                        "name": o.name,
                        "connection": o.unique or None,
                        "pid": o.pid,
                        "uid": o.uid,
                        "process": o.process or None,
                    }
                    for o in found
                ]
            )
            return
        rows = [(o.name, o.pid, o.process or None, o.uid, o.unique or "activatable") for o in found]
        print_table(_HEADER, rows)

    return ask(where, work)


@bus_command.command("tree", epilog="Example: hostlab bus tree UDisks2 --members")
@_name
@click.argument("path", default="/")
@click.option("-m", "--members", "with_members", is_flag=True, help="What each object has, too.")
@bus_options
def tree_command(name: str, path: str, *, with_members: bool, where: Where, as_json: bool) -> int:
    """List the objects of a name, with their interfaces; `--members` for all they have."""

    async def work(buses: Buses) -> None:
        from hostlab.observe.bus import STANDARD, members

        rows: list[dict[str, Any]] = []
        async for where, tree in buses.objects(await buses.name(name), path):
            own = [each.name for each in tree.interfaces if each.name not in STANDARD]
            listed = [list(each) for each in members(tree)]
            rows.append({"path": where, "interfaces": own, "members": listed})
            if as_json or not own:
                continue
            print(where if with_members else f"{where}  {' '.join(own)}")
            for interface, kind, text in listed if with_members else ():
                if interface in own:
                    print(f"    {kind:8}  {interface}.{text}")
        if as_json:
            print_json(rows if with_members else [_without_members(row) for row in rows])

    return ask(where, work)


def _without_members(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "members"}


@bus_command.command("get", epilog="Example: hostlab bus get login1 IdleHint")
@_name
@_property
@bus_options
def get_command(name: str, words: tuple[str, ...], *, where: Where, as_json: bool) -> int:
    """Print a property."""
    path, text = _path_and(words, "property")

    async def work(buses: Buses) -> None:
        member = await buses.property(await buses.name(name), path, text)
        _print([await buses.get(member)], member.signature, as_json=as_json)

    return ask(where, work)


@bus_command.command("set", epilog="Example: hostlab bus set Upstart log_priority debug")
@_name
@_property
@click.argument("value")
@bus_options
def set_command(
    name: str, words: tuple[str, ...], value: str, *, where: Where, as_json: bool
) -> int:
    """Set a property to VALUE, written as for `call`."""
    path, text = _path_and(words, "property")

    async def work(buses: Buses) -> None:
        member = await buses.property(await buses.name(name), path, text)
        await buses.set(member, value)
        if as_json:
            print_json({"path": member.path, "interface": member.interface, "set": member.member})

    return ask(where, work)


@bus_command.command("get-all", epilog="Example: hostlab bus get-all hostname1")
@_name
@click.argument("words", nargs=-1, metavar="[PATH] [INTERFACE]", shell_complete=_complete_property)
@bus_options
def get_all_command(name: str, words: tuple[str, ...], *, where: Where, as_json: bool) -> int:
    """Print the properties of an object, or of one interface of it; without PATH of all objects."""
    path = words[0] if words and words[0].startswith("/") else None
    rest = words[1:] if path is not None else words
    if len(rest) > 1:
        raise UsageError("usage", f"one interface is wanted, not {' '.join(rest)}")

    async def work(buses: Buses) -> int:
        from hostlab.observe.bus_values import plain, shown

        whole = await buses.name(name)
        found: dict[str, dict[str, Any]] = {}
        async for where_, each in buses.interfaces(whole, path, rest[0] if rest else ""):
            if each.properties:
                try:
                    values = await buses.get_all(whole, where_, each.name)
                except Failed as failed:
                    print_error(f"{where_} {each.name}: {failed.message}")
                    continue
                found.setdefault(where_, {})[each.name] = values
        if as_json:
            print_json(plain(found))
            return 0
        for where_, interfaces in found.items():
            for interface, values in interfaces.items():
                print(f"{where_} {interface}")
                for key, value in sorted(values.items()):
                    print(f"    {key}  {shown(value)}")
        return 0 if found else 1

    return ask(where, work)


@bus_command.command(
    "call",
    context_settings={"ignore_unknown_options": True},
    epilog="Example: hostlab bus call Upstart EmitEvent greet '[WHO=alice]' true --node box",
)
@_name
@click.argument(
    "words",
    nargs=-1,
    required=True,
    metavar="[PATH] [INTERFACE.]METHOD [ARGUMENT]…",
    shell_complete=_complete_method,
)
@click.option("--timeout", "timeout_s", type=float, default=TIMEOUT_S, show_default=True)
@bus_options
def call_command(
    name: str, words: tuple[str, ...], *, timeout_s: float, where: Where, as_json: bool
) -> int:
    """Call a method, and print what it gives.

    Arguments are written by the method's types: texts as they are, [a, b] for arrays, {key: value}
    for dictionaries, (a, 5) for structures, and a variant with its type first: s:hello.
    """
    path = words[0] if words[0].startswith("/") else None
    rest = words[1:] if path is not None else words
    if not rest:
        raise UsageError("usage", "which method?", hint=f"hostlab bus tree {name} --members")

    async def work(buses: Buses) -> None:
        member = await buses.method(await buses.name(name), path, rest[0])
        _print(await buses.call(member, list(rest[1:])), member.answer, as_json=as_json)

    return ask(where, work, timeout_s=timeout_s)


@bus_command.command("monitor", epilog="Example: hostlab bus monitor SIGNAL=SessionNew")
@click.argument("operands", nargs=-1, metavar="[SIGNAL=…] [INTERFACE=…] [OBJPATH=…] [ARG0=…]…")
@click.option("--all", "everything", is_flag=True, help="Calls and answers of others, too (root).")
@click.option("--count", type=click.IntRange(1), help="End after so many.")
@bus_options
def monitor_command(
    operands: tuple[str, ...], *, everything: bool, count: int | None, where: Where, as_json: bool
) -> int:
    """Show signals as they come: those that `start on dbus …` would hear, or all of them."""
    from hostlab.jobs.dbus_event import rule_of, rule_text
    from hostlab.spec.job import Match

    if everything and operands:
        raise UsageError("usage", "--all is everything: without SIGNAL= and the like")
    rule = None if everything else rule_text(rule_of(Match("dbus", operands)))

    async def work(buses: Buses) -> None:
        shown = 0
        async for message in buses.listen(rule):
            if operands and not _is_meant(operands, message):
                continue
            print(_line(message, as_json=as_json), flush=True)
            shown += 1
            if count is not None and shown >= count:
                break
        if buses.lost:
            print_error(f"{buses.lost} messages came too fast and are not shown")

    return ask(where, work, timeout_s=None)


def print_error(text: str) -> None:
    """A line on standard error."""
    click.echo(f"hostlab: {text}", err=True)


def _path_and(words: tuple[str, ...], what: str) -> tuple[str | None, str]:
    path = words[0] if words[0].startswith("/") else None
    rest = words[1:] if path is not None else words
    if len(rest) != 1:
        said = " ".join(rest) or "nothing"
        raise UsageError("usage", f"one {what} is wanted, not {said}")
    return path, rest[0]


def _print(values: list[Any], signature: str, *, as_json: bool) -> None:
    from hostlab.observe.bus_values import plain, shown

    if as_json:
        print_json({"type": signature, "data": plain(values)})
        return
    for value in values:
        print(shown(value))


def _is_meant(operands: tuple[str, ...], message: Message) -> bool:
    from hostlab.init.sources.dbus import variables_of
    from hostlab.jobs.dbus_event import listens_to
    from hostlab.spec.job import Match

    texts = tuple(text for text in operands if not text.startswith(("BUS=", "BUS!=", "SENDER=")))
    return listens_to(Match("dbus", texts), variables_of("", message, str(message.sender)))


def _line(message: Message, *, as_json: bool) -> str:
    from hostlab.observe.bus_values import plain, shown

    kind = message.message_type.name.lower().replace("_", "-")
    if as_json:
        return json.dumps(
            {
                "time": time.time(),
                "kind": kind,
                "sender": message.sender,
                "destination": message.destination,
                "path": message.path,
                "interface": message.interface,
                "member": message.member,
                "error": message.error_name,
                "type": message.signature,
                "data": plain(message.body),
            }
        )
    to = f" → {message.destination}" if message.destination else ""
    what = ".".join(filter(None, (message.interface, message.member))) or message.error_name or ""
    words = [time.strftime("%H:%M:%S"), kind, f"{message.sender}{to}", message.path or "-", what]
    return " ".join([*words, *map(shown, message.body)])
