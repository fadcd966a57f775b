"""Commands that look at labs, nodes, processes, and change nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import click

from hostlab.cli.link import impaired_cables
from hostlab.cli.output import coloured, json_option, print_json, print_table
from hostlab.cli.targets import complete_lab, complete_node, lab_named, one_node
from hostlab.errors import UsageError
from hostlab.lab.paths import LabDirectory

if TYPE_CHECKING:
    from hostlab.api import Lab, Node
    from hostlab.observe.graph import States
    from hostlab.observe.namespaces import NamespaceInfo

_target = click.argument("node", shell_complete=complete_node)
_MAX_WIDTH = 100
_CAPABILITY = "CAP_"


def complete_interface(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The interfaces of the node that stands before, and `lo`."""
    from hostlab.errors import Problem

    try:
        names = ["lo", *_described_interfaces(one_node(ctx.params["node"]))]
    except (Problem, OSError, KeyError):
        return []
    return [name for name in names if name.startswith(incomplete)]


@click.command("capture", epilog="Example: hostlab capture bob eth0 | wireshark -k -i -")
@_target
@click.argument("interface", required=False, shell_complete=complete_interface)
@click.option("-f", "--filter", "expression", help="Only packets that match, as tcpdump writes it.")
@click.option("-c", "--count", type=click.IntRange(1), help="End after so many packets.")
@click.option("-w", "--write", "path", type=click.Path(), help="Write to a file instead.")
def capture_command(
    node: str,
    interface: str | None,
    *,
    expression: str | None,
    count: int | None,
    path: str | None,
) -> None:
    """Write the packets of a node's INTERFACE as pcapng, until Ctrl-C; its first one by default.

    Standard output is made for a pipe into Wireshark, or a file; what is captured goes on while
    the reader is slow, and what was lost is told at the end.
    """
    from hostlab.cli.capture import capture

    found = one_node(node)
    if path in (None, "-"):
        if sys.stdout.isatty():
            hint = f"hostlab capture {node} | wireshark -k -i -, or say -w FILE"
            raise UsageError("terminal", "packets are not for a terminal", hint=hint)
        out = sys.stdout.fileno()
    else:
        assert path is not None
        out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    if interface is None:
        interface = next(iter(_described_interfaces(found)), None)
    capture(found, interface, out, expression=expression, count=count)


def _described_interfaces(node: Node) -> list[str]:
    from hostlab.lab.description import staged

    lab = staged(node.lab)
    return [each.name for each in lab.node(node.name).interfaces] if lab is not None else []


@click.command("graph", epilog="Example: hostlab graph --format svg lab.yaml > lab.svg")
@click.argument("lab", required=False, shell_complete=complete_lab)
@click.option(
    "--format",
    "kind",
    type=click.Choice(("ascii", "dot", "mermaid", "svg")),
    default="ascii",
    show_default=True,
    help="What to draw with.",
)
def graph_command(lab: str | None, *, kind: str) -> None:
    """Draw a lab, by its name or its description; the states of a running one are colours."""
    from hostlab.observe.graph import FORMATS, State

    found = lab_named(lab)
    picture = FORMATS[kind](found.description, _states(found))
    if kind == "ascii":
        for state in State:
            text = f"[{state.value}]"
            picture = picture.replace(text, coloured(text, good=state is State.RUNNING))
    sys.stdout.write(picture)


def _states(lab: Lab) -> States:
    """The nodes' states, by their jobs and whether they are there; nothing of a lab that is not up.

    A node of a description that was changed since has no state.
    """
    from hostlab.observe.graph import State

    if not lab.is_up():
        return {}
    nodes = lab.nodes()
    states = {}
    for row in lab.status()["nodes"]:
        node = nodes.get(row["name"])
        if node is None:
            states[row["name"]] = State.STOPPED
        else:
            failed = _has_jobs(lab, row["name"]) and any(
                job["state"] == "failed" for job in node.job_table()
            )
            states[row["name"]] = State.FAILED if failed else State.RUNNING
    return states


def _has_jobs(lab: Lab, name: str) -> bool:
    """Whether asking for a node's jobs is worth starting its supervisor."""
    return any(node.name == name and node.jobs for node in lab.description.nodes)


@click.command("namespaces", epilog="Example: hostlab namespaces hello")
@click.argument("lab", required=False, shell_complete=complete_lab)
@click.option("--machine", is_flag=True, help="Those of every process of the machine.")
@json_option
def namespaces_command(lab: str | None, *, machine: bool, as_json: bool) -> None:
    """Show every namespace of a lab: type, inode, who is in it, its owner, how deep it nests."""
    from hostlab.lab import remains
    from hostlab.observe.namespaces import namespaces

    if machine and lab is not None:
        raise UsageError("usage", "--machine shows them all: name no lab with it")
    if machine:
        found = namespaces()
        owners = remains.marked_processes()
    else:
        chosen = lab_named(lab)
        owners = {node.pid: node.name for node in chosen}
        owners[chosen.status()["pid"]] = "(hub)"
        found = namespaces(remains.lab_processes(LabDirectory.of(chosen.name)))
    if as_json:
        print_json([_namespace_row(one, owners) for one in found])
        return
    print_table(
        ("KIND", "INODE", "DEPTH", "OWNER", "WHO", "PROCESSES"),
        [_namespace_cells(one, owners) for one in found],
    )


def _who(one: NamespaceInfo, owners: dict[int, str]) -> list[str]:
    """The nodes (or labs) whose first processes are in a namespace, and whether we are too."""
    who = list(dict.fromkeys(owners[pid] for pid in one.pids if pid in owners))
    if one.inode == os.stat(f"/proc/self/ns/{one.kind}").st_ino:
        who.insert(0, "(machine)")
    return who


def _namespace_row(one: NamespaceInfo, owners: dict[int, str]) -> dict[str, Any]:
    import msgspec

    row: dict[str, Any] = msgspec.to_builtins(one)
    return {**row, "who": _who(one, owners)}


def _namespace_cells(one: NamespaceInfo, owners: dict[int, str]) -> tuple[object, ...]:
    if one.problem:
        return (one.kind, "?", "?", "?", "-", f"{len(one.pids)}: {one.problem}")
    who = _who(one, owners)
    names = ", ".join(who[:4]) + (f", … ({len(who)})" if len(who) > 4 else "")
    owner = "?" if one.owner is None else f"{one.owner} (uid {one.owner_uid})"
    cells = one.row()
    processes = f"{cells[2]} {one.command}" if one.pids else cells[-1]
    depth = "?" if one.depth is None else one.depth
    return (one.kind, one.inode, depth, owner, names or "-", processes)


@click.command("capabilities", epilog="Example: hostlab capabilities web1:/usr/bin/ping")
@click.argument("target", required=False, shell_complete=complete_node)
@click.option("--pid", type=int, help="A process of the machine.")
@click.option("--file", "path", type=click.Path(), help="A file of the machine.")
@json_option
def capabilities_command(
    target: str | None, *, pid: int | None, path: str | None, as_json: bool
) -> None:
    """Show the capability sets of a process, or what a file gives that is executed.

    TARGET is NODE (every process in it), NODE:PID (as the node numbers it) or NODE:PATH.
    """
    from hostlab.observe.capabilities import file_capabilities, process_capabilities

    if sum(said is not None for said in (target, pid, path)) != 1:
        raise UsageError(
            "usage", "one of TARGET, --pid, --file is wanted", hint="as `web1:/bin/ls`"
        )
    found: list[Any]
    try:
        if path is not None:
            found = [file_capabilities(path)]
        elif pid is not None:
            found = [process_capabilities(pid)]
        else:
            assert target is not None
            found = _capabilities_of(target)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError("no-file", f"{error.filename}: {error.strerror}") from None
    if as_json:
        print_json(found)
    else:
        print(*found, sep="\n")


def _capabilities_of(target: str) -> list[Any]:
    from hostlab.observe.capabilities import process_capabilities
    from hostlab.observe.in_node import file_capabilities_in, pid_in, pids_in

    name, _, what = target.partition(":")
    node = one_node(name)
    if what.startswith("/"):
        return [file_capabilities_in(node.pid, what)]
    if not what:
        found = []
        for each in pids_in(node.pid).values():
            with contextlib.suppress(UsageError):  # One that has ended since.
                found.append(process_capabilities(each))
        return found
    if not what.isdecimal():
        raise UsageError("usage", f"{what!r} is neither a process' number nor an absolute path")
    return [process_capabilities(pid_in(node.pid, int(what)))]


@click.command("differences", epilog="Example: hostlab differences alice")
@_target
@json_option
def differences_command(node: str, *, as_json: bool) -> None:
    """Tell what a node does not reproduce of a real host: read it before trusting a result."""
    from hostlab.lab.description import staged
    from hostlab.lab.rootfs import MASKED, READONLY
    from hostlab.observe.differences import circumstances, differences

    found = one_node(node)
    lab = staged(found.lab)
    assert lab is not None, "a node that is there was described"
    found_here = circumstances(
        masked_paths=MASKED,
        readonly_paths=READONLY,
        impaired=tuple(
            (row["interface"], f"by {row['method']}: {row['limits']}")
            for row in impaired_cables(found.lab)
            if row["node"] == found.name
        ),
    )
    rows = differences(lab.node(found.name), found_here)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        if not row.topic.startswith(_CAPABILITY):
            print(row.topic)
            _print_wrapped("here:", row.here)
            _print_wrapped("there:", row.there)
            if row.remedy:
                _print_wrapped("get it:", row.remedy)
    print("capabilities")
    for row in rows:
        if row.topic.startswith(_CAPABILITY):
            here = "" if row.here == "missing" else f"; {row.here}"
            text = f"{row.there}{here}; get it: {row.remedy}"
            _print_wrapped(row.topic.removeprefix(_CAPABILITY), text, column=20)


def _print_wrapped(label: str, text: str, *, column: int = 10) -> None:
    width = min(shutil.get_terminal_size((_MAX_WIDTH, 24)).columns, _MAX_WIDTH)
    start = f"  {label} ".ljust(column)
    print(textwrap.fill(text, width, initial_indent=start, subsequent_indent=" " * column))
