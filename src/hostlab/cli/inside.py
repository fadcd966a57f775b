"""Commands that act inside nodes."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING, Any

import click

from hostlab.cli.joblogs import instance_option, log_of
from hostlab.cli.output import json_option, print_json
from hostlab.cli.targets import complete_node, nodes_named, one_node
from hostlab.errors import UsageError

if TYPE_CHECKING:
    from hostlab.api import Node
    from hostlab.lab.access import Completed

_targets = click.argument("nodes", shell_complete=complete_node)
_target = click.argument("node", shell_complete=complete_node)
AT_ONCE = 32
"""Nodes that a command runs in at the same time."""


@click.command(
    "exec",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="Example: hostlab exec alice,bob -- ip -br address",
)
@click.option("-u", "--user", help="Run as this user of the node.")
@click.option("-C", "--directory", default="/", help="Run in this directory of the node.")
@click.option("-e", "--env", "pairs", multiple=True, help="NAME=VALUE; may be given repeatedly.")
@click.option("-t/-T", "--tty/--no-tty", default=None, help="Make a terminal (default: if it is).")
@_targets
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@json_option
def exec_command(
    nodes: str,
    command: tuple[str, ...],
    *,
    user: str | None,
    directory: str,
    pairs: tuple[str, ...],
    tty: bool | None,
    as_json: bool,
) -> int:
    """Run COMMAND in a node, or in several: NODE, LAB/NODE, LAB/*, A,B.

    In one node the command has this terminal, these pipes and files; its exit status is ours, its
    signals are passed on. In several its output is collected, each line behind the node's name.
    """
    found = nodes_named(nodes)
    argv = command[1:] if command[0] == "--" else command
    options: dict[str, Any] = {
        "user": user,
        "directory": directory,
        "environment": dict(_pair(pair) for pair in pairs),
    }
    if len(found) == 1 and not as_json:
        from hostlab.cli.session import run_session

        return run_session(found[0], argv, tty=tty, **options)
    return _run_many(found, argv, options, as_json=as_json)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError("environment", f"{text!r} is not NAME=VALUE")
    return name, value


def _run_many(
    nodes: list[Node], argv: tuple[str, ...], options: dict[str, Any], *, as_json: bool
) -> int:
    from concurrent.futures import ThreadPoolExecutor

    def run(node: Node) -> Completed:
        return node.execute(argv, **options)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = list(zip(nodes, pool.map(run, nodes), strict=True))
    if as_json:
        print_json(
            [
                {
                    "node": node.name,
                    "status": done.status,
                    "stdout": done.stdout.decode(errors="replace"),
                    "stderr": done.stderr.decode(errors="replace"),
                }
                for node, done in results
            ]
        )
    else:
        for node, done in results:
            for stream, data in ((sys.stdout, done.stdout), (sys.stderr, done.stderr)):
                for line in data.decode(errors="replace").splitlines():
                    print(f"{node.name}: {line}", file=stream)
            if done.status:
                print(f"{node.name}: exit status {done.status}", file=sys.stderr)
    return max((done.status for _, done in results), default=0)


@click.command("shell", epilog="Example: hostlab shell alice")
@_target
@click.option("-u", "--user", help="Be this user of the node.")
def shell_command(node: str, *, user: str | None) -> int:
    """Open a shell in a node."""
    from hostlab.cli.session import run_session

    chosen = one_node(node)
    look = "if command -v bash >/dev/null; then exec bash -i; else exec sh -i; fi"
    prompt = {"PS1": rf"{chosen.name}:\w\$ "}
    return run_session(
        chosen, ("/bin/sh", "-c", look), tty=None, user=user, directory="/", environment=prompt
    )


@click.command("logs", epilog="Example: hostlab logs alice web -f")
@_target
@click.argument("job", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now.")
@click.option("-n", "--lines", default=0, help="Only the last N lines.")
@instance_option
def logs_command(node: str, job: str | None, *, follow: bool, lines: int, instance: str) -> None:
    """Show what a node's jobs wrote; JOB may be left out where there is only one."""
    from hostlab.cli.following import follow_file

    chosen = one_node(node)
    names = sorted({row["name"] for row in chosen.job_table()})
    if job is None and len(names) != 1:
        known = ", ".join(names) or "none"
        raise UsageError("which-job", f"name a job of {chosen.name}: {known}")
    path = log_of(chosen, job or names[0], instance, names)
    follow_file(path, lines=lines or None, forever=follow)


@click.command("cp", epilog="Example: hostlab cp page.html alice:/srv/")
@click.argument("source")
@click.argument("destination")
def cp_command(source: str, destination: str) -> int:
    """Copy a file or directory into or out of a node: PATH NODE:PATH, or the reverse.

    Modes and times go along; what goes in belongs to the node's root, what comes out to you.
    """
    inner, outer = _place(source), _place(destination)
    if (inner is None) == (outer is None):
        raise UsageError("cp", "one of the two is NODE:PATH, the other a path of this machine")
    if outer is not None:
        return _copy_in(source, *outer)
    assert inner is not None
    return _copy_out(*inner, destination)


def _place(text: str) -> tuple[str, str] | None:
    node, colon, path = text.partition(":")
    return (node, path) if colon and not text.startswith(("/", ".")) else None


def _copy_in(source: str, target: str, path: str) -> int:
    """tar writes the one end of a pipe on the machine, and reads the other inside the node."""
    if not os.path.lexists(source):
        raise UsageError("no-file", f"{source}: no such file")
    node = one_node(target)
    directory, name = os.path.split(os.path.abspath(source))
    into, new = _resolve(node, path, name)
    rename = _rename(name, new)
    pack = ["tar", "-C", directory, *rename, "-cf", "-", "--", name]
    unpack = ["tar", "-C", into, "--no-same-owner", "-xpf", "-"]
    return _pipe(pack, node, unpack, into_node=True)


def _copy_out(target: str, path: str, destination: str) -> int:
    node = one_node(target)
    directory, name = os.path.split(path.rstrip("/"))
    if os.path.isdir(destination):
        into, new = destination, name
    else:
        into, new = os.path.split(os.path.abspath(destination))
    rename = _rename(name, new)
    pack = ["tar", "-C", directory or "/", *rename, "-cf", "-", "--", name]
    unpack = ["tar", "-C", into, "--no-same-owner", "-xpf", "-"]
    return _pipe(unpack, node, pack, into_node=False)


def _resolve(node: Node, path: str, name: str) -> tuple[str, str]:
    """(directory, name) in the node: a directory takes the file, anything else is its new name."""
    absolute = path if path.startswith("/") else f"/{path}"
    if absolute.endswith("/") or not node.execute(["test", "-d", absolute]).status:
        return absolute, name
    return os.path.dirname(absolute), os.path.basename(absolute)


def _rename(name: str, new: str) -> list[str]:
    """tar's option that gives the first component of every path another name."""
    if name == new:
        return []
    pattern = "".join(f"\\{c}" if c in ",.*[]^$\\" else c for c in name)
    replacement = "".join(f"\\{c}" if c in ",\\&" else c for c in new)
    return [f"--transform=s,^{pattern},{replacement},"]


def _pipe(here: list[str], node: Node, there: list[str], *, into_node: bool) -> int:
    import subprocess

    reader, writer = os.pipe()
    ours, theirs = (writer, reader) if into_node else (reader, writer)
    end = subprocess.Popen(here, stdout=ours) if into_node else subprocess.Popen(here, stdin=ours)
    os.close(ours)
    try:
        done = node.attach(there, theirs, into_node=into_node)
    finally:
        os.close(theirs)
    status = end.wait()
    if done.stderr:
        sys.stderr.write(done.stderr.decode(errors="replace"))
    if done.status:
        print(f"repeat: hostlab exec {node.name} -- {shlex.join(there)}", file=sys.stderr)
    return int(done.status or status)
