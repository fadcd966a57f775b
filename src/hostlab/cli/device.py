"""Commands that plug things into nodes and pull them out."""

from __future__ import annotations

import sys
from typing import Any

import click

from hostlab.cli.output import json_option, print_json, print_table
from hostlab.cli.targets import complete_node, one_node

_node = click.argument("node", shell_complete=complete_node)


@click.group("device", epilog="Example: hostlab device plug desk stick.yaml")
def device_command() -> None:
    """Plug a USB stick or a mouse into a node: what a real kernel said of one is a file."""


@device_command.command("plug")
@_node
@click.argument("file", type=click.Path())
def plug_command(node: str, file: str) -> None:
    """Plug the thing that FILE describes into a node."""
    from hostlab.lab.devices import read_device

    device = read_device(file)
    found = one_node(node)
    for warning in found.plug(device):
        print(f"warning: {found.name}: {device.name}: {warning}", file=sys.stderr)
    print(f"{device.name} is plugged into {found.name}: {len(device.devices)} devices")


def _complete_plugged(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from hostlab.errors import Problem

    try:
        plugged = one_node(ctx.params["node"]).plugged()
    except (Problem, OSError, KeyError):
        return []
    return [each.name for each in plugged if each.name.startswith(incomplete)]


@device_command.command("unplug")
@_node
@click.argument("name", shell_complete=_complete_plugged)
def unplug_command(node: str, name: str) -> None:
    """Pull out what is plugged into a node under a NAME; its file will do, too."""
    from hostlab.lab.devices import read_device

    found = one_node(node)
    if name.endswith((".yaml", ".yml")):
        name = read_device(name).name
    found.unplug(name)
    print(f"{name} is pulled out of {found.name}")


@device_command.command("list")
@_node
@json_option
def list_command(node: str, *, as_json: bool) -> None:
    """List what is plugged into a node."""
    plugged = one_node(node).plugged()
    rows: list[dict[str, Any]] = [
        {
            "name": each.name,
            "devices": len(each.devices),
            "files": [one["DEVNAME"] for one in each.devices if "DEVNAME" in one],
            "content": each.content,
        }
        for each in plugged
    ]
    if as_json:
        print_json(rows)
        return
    table = [(r["name"], r["devices"], r["content"], " ".join(r["files"])) for r in rows]
    print_table(("NAME", "DEVICES", "CONTENT", "FILES"), table)


@device_command.command("udisks2-stand-in", hidden=True)
def stand_in_command() -> None:
    """Answer for UDisks2 on this node's system bus; the program of this name runs it."""
    from hostlab.init.devices.stand_in import run

    run(lambda text: print(f"udisks2-stand-in: {text}", file=sys.stderr, flush=True))
