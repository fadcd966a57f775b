"""Show and change what an interface's cable does to packets, while the lab runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from hostlab import typed
from hostlab.cli.output import json_option, print_json, print_table
from hostlab.cli.targets import complete_node, one_node, only_lab
from hostlab.errors import UsageError

if TYPE_CHECKING:
    from hostlab.api import Node

_BOTH = ("out", "in")


@click.command(
    "link",
    epilog="Example: hostlab link r1:eth0 delay=20ms jitter=2ms out loss=1%  "
    "(r1's cable takes 20 ms both ways, and loses 1% of what r1 sends)",
)
@click.argument("interface", required=False, shell_complete=complete_node)
@click.argument("words", nargs=-1)
@click.option(
    "--clear", is_flag=True, help="Begin with nothing, in the ways that are named or in both."
)
@json_option
def link_command(
    interface: str | None, words: Sequence[str], *, clear: bool, as_json: bool
) -> None:
    """Show or change what happens to packets on a cable: delay, loss, rate and the like.

    INTERFACE is NODE:INTERFACE, or NODE if it has only one; without it every impaired cable of
    the lab is shown. WORDS are KEY=VALUE: delay, jitter, loss, burst, duplicate, reorder, corrupt,
    rate, queue, seed; `out` before them is about what the node sends, `in` about what it receives.
    What is not named stays as it is; `none` takes back a burst, rate, queue or seed.
    """
    if interface is None:
        if clear:
            raise UsageError(
                "usage", "--clear wants a cable", hint="as `hostlab link r1:eth0 --clear`"
            )
        _show(only_lab(), None, as_json=as_json)
        return
    node_text, _, name = interface.rpartition(":") if ":" in interface else (interface, "", "")
    node = one_node(node_text)
    name = name or _only_interface(node)
    if words or clear:
        _change(node, name, words, clear=clear)
    if as_json or not (words or clear):
        _show(node.lab, (node.name, name), as_json=as_json)


def _only_interface(node: Node) -> str:
    names = _interfaces(node)
    if len(names) != 1:
        hint = "one of: " + ", ".join(f"{node.name}:{name}" for name in names)
        raise UsageError("which-interface", f"{node.name} has {len(names)} interfaces", hint=hint)
    return names[0]


def _interfaces(node: Node) -> list[str]:
    from hostlab.lab.description import staged

    lab = staged(node.lab)
    return [] if lab is None else [one.name for one in lab.node(node.name).interfaces]


def _change(node: Node, name: str, words: Sequence[str], *, clear: bool) -> None:
    ways = said(words)
    if not any(ways.values()) and not clear:
        hint = f"as `{' '.join(words)} delay=20ms`; without any word what is there is shown"
        raise UsageError("impairment", f"nothing is said of `{' '.join(words)}`", hint=hint)
    named = tuple(way for way in _BOTH if way in words)
    cleared = (named or _BOTH) if clear else ()
    node.impair(name, sending=ways["out"], receiving=ways["in"], clear=cleared)


def said(words: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What the words say of each direction; UsageError with what is wrong in them."""
    ways: dict[str, dict[str, Any]] = {way: {} for way in _BOTH}
    meant: Sequence[str] = _BOTH
    for word in words:
        if word in _BOTH:
            meant = (word,)
            continue
        key, equals, value = word.partition("=")
        parsed = _parsed(word, key, equals, value)
        for way in meant:
            ways[way][key] = parsed
    return ways


def _parsed(word: str, key: str, equals: str, value: str) -> Any:
    from hostlab.spec.impairment_tables import PARSERS
    from hostlab.spec.source import Wrong

    if key not in PARSERS or not equals:
        import difflib

        close = difflib.get_close_matches(key, PARSERS, 1)
        hint = f"did you mean `{close[0]}=`?" if close else "keys: " + ", ".join(PARSERS)
        raise UsageError("impairment", f"{word!r} is not KEY=VALUE, `out` or `in`", hint=hint)
    try:
        return PARSERS[key](value)
    except Wrong as wrong:
        raise UsageError("impairment", f"{key}: {wrong.message}", hint=wrong.hint) from None


def _show(lab: str, only: tuple[str, str] | None, *, as_json: bool) -> None:
    rows = impaired_cables(lab)
    if only is not None:
        rows = [row for row in rows if (row["node"], row["interface"]) == only]
    if as_json:
        print_json(rows)
        return
    if not rows:
        print(f"{':'.join(only)}: nothing" if only else "no cable is impaired")
        return
    header = ("INTERFACE", "WAY", "IMPAIRMENT", "BY", "FRAMES")
    print_table(header, [cells for row in rows for cells in _cells(row)])


def impaired_cables(lab: str) -> list[dict[str, Any]]:
    """What a lab's hub tells of its impaired cables."""
    from hostlab.lab.driver import running

    control = running(lab)
    try:
        return list(control.call("links")["links"])
    finally:
        control.close()


def _cells(row: Mapping[str, Any]) -> list[tuple[str, ...]]:
    from hostlab.spec.impairments import Impairment

    found: list[tuple[str, ...]] = []
    for way in _BOTH:
        impairment = typed.convert(row[way], Impairment)
        passed = row.get("passed", {}).get(way, {})
        counts = ", ".join(f"{number} {name}" for name, number in passed.items() if number)
        name = f"{row['node']}:{row['interface']}"
        found.append((name, way, impairment.describe(), row["method"], counts or "-"))
    return found
