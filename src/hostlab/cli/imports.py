"""`hostlab import`: what others have written, as a description; `generate`: what nobody has."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from hostlab.cli.output import counted, json_option, print_json
from hostlab.errors import UsageError

if TYPE_CHECKING:
    from hostlab.spec.importing import Imported
    from hostlab.topologies.description import Options
    from hostlab.topologies.network import Network

MAX_BYTES = 64 << 20
"""Of a foreign file: ten thousand nodes in GraphML are a tenth of it."""


@click.group("import", epilog="Example: hostlab import compose compose.yaml > lab.yaml")
def import_command() -> None:
    """Turn someone else's file into a description: it on standard output, what is lost beside."""


_foreign = click.argument("file", type=click.Path())
_engine = click.option(
    "--engine",
    type=click.Choice(("bird", "frr", "none")),
    default="bird",
    show_default=True,
    help="Whose daemons speak OSPF on the routers.",
)
_no_impair = click.option(
    "--no-impair", "perfect", is_flag=True, help="Leave the links' speeds and delays out."
)


@import_command.command("compose", epilog="Example: hostlab import compose compose.yaml > lab.yaml")
@_foreign
@json_option
def import_compose_command(file: str, *, as_json: bool) -> None:
    """Turn a Compose file into a description; `-` is standard input."""
    from hostlab.spec.compose import import_compose

    _print_imported(
        import_compose(_read(file), file=_shown(file), variables=os.environ), as_json=as_json
    )


@import_command.command(
    "containerlab", epilog="Example: hostlab import containerlab fabric.clab.yml > lab.yaml"
)
@_foreign
@json_option
def import_containerlab_command(file: str, *, as_json: bool) -> None:
    """Turn a containerlab topology into a description; `-` is standard input."""
    from hostlab.spec.containerlab import import_containerlab

    _print_imported(
        import_containerlab(_read(file), file=_shown(file), variables=os.environ), as_json=as_json
    )


@import_command.command("goss", epilog="Example: hostlab import goss goss.yaml > checks.yaml")
@_foreign
@json_option
def import_goss_command(file: str, *, as_json: bool) -> None:
    """Turn a goss file into a node with checks; `-` is standard input."""
    from hostlab.spec.goss import import_goss

    _print_imported(import_goss(_read(file), file=_shown(file)), as_json=as_json)


@import_command.command(
    "graphml", epilog="Example: hostlab import graphml Abilene.graphml > abilene.yaml"
)
@_foreign
@_engine
@_no_impair
@json_option
def import_graphml_command(file: str, *, engine: str, perfect: bool, as_json: bool) -> None:
    """Turn a network in GraphML into a description, as those of the Internet Topology Zoo.

    Each node becomes a router, each edge a segment, each hyperedge a segment that several share.
    `-` is standard input.
    """
    _import_network(file, "graphml", _options(engine, perfect=perfect), as_json=as_json)


@import_command.command("dot", epilog="Example: hostlab import dot network.dot > network.yaml")
@_foreign
@_engine
@_no_impair
@json_option
def import_dot_command(file: str, *, engine: str, perfect: bool, as_json: bool) -> None:
    """Turn a graph in Graphviz' language into a description; `-` is standard input."""
    _import_network(file, "dot", _options(engine, perfect=perfect), as_json=as_json)


@import_command.command("edges", epilog="Example: hostlab import edges network.txt > network.yaml")
@_foreign
@_engine
@_no_impair
@json_option
def import_edges_command(file: str, *, engine: str, perfect: bool, as_json: bool) -> None:
    """Turn a list of edges into a description: two names a line, then `rate=`, `delay=`, `cost=`.

    `-` is standard input.
    """
    _import_network(file, "edges", _options(engine, perfect=perfect), as_json=as_json)


def _import_network(file: str, kind: str, options: Options, *, as_json: bool) -> None:
    from hostlab.topologies.importing import import_network

    text = _read(file)
    found = import_network(text, file=_shown(file), kind=kind, options=options)
    _print_imported(found, as_json=as_json, are_losses=False)


def _options(engine: str, *, perfect: bool = False) -> Options:
    from hostlab.spec.routing import Engine
    from hostlab.topologies.description import Options

    chosen = None if engine == "none" else Engine(engine)
    return Options(engine=chosen, is_impaired=not perfect)


def _shown(file: str) -> str:
    return "<stdin>" if file == "-" else file


def _read(file: str) -> str:
    try:
        if file == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with open(file, "rb") as source:
                data = source.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise UsageError("too-large", f"{_shown(file)}: more than {MAX_BYTES >> 20} MiB")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError("no-text", f"{_shown(file)}: not UTF-8: {error.reason}") from None
    except OSError as error:
        raise UsageError("no-file", f"{file}: {error.strerror}") from None


def _print_imported(imported: Imported, *, as_json: bool, are_losses: bool = True) -> None:
    """The description and the notes; `are_losses`: each of them is of something that is lost."""
    if as_json:
        notes = [{"where": str(note.where), "message": note.message} for note in imported.notes]
        print_json({"description": imported.text, "notes": notes})
        return
    sys.stdout.write(imported.text)
    sys.stdout.flush()
    for note in imported.notes:
        print(note, file=sys.stderr)
    if imported.notes and are_losses:
        things = counted(len(imported.notes), "thing")
        print(f"not in the description: {things}", file=sys.stderr)


@click.group(
    "generate", epilog="Example: hostlab generate clos --spines 2 --leaves 4 > fabric.yaml"
)
def generate_command() -> None:
    """Print the description of a network with a regular form."""


@generate_command.command("ring", epilog="Example: hostlab generate ring 6 > ring.yaml")
@click.argument("nodes", type=click.IntRange(1))
@_engine
def generate_ring_command(nodes: int, *, engine: str) -> None:
    """Print a ring of NODES routers."""
    from hostlab.topologies.generators import ring

    _print_generated(ring(nodes), engine)


@generate_command.command("grid", epilog="Example: hostlab generate grid 3 4 > grid.yaml")
@click.argument("rows", type=click.IntRange(1, 10_000))
@click.argument("columns", type=click.IntRange(1, 10_000))
@_engine
def generate_grid_command(rows: int, columns: int, *, engine: str) -> None:
    """Print a grid of ROWS × COLUMNS routers."""
    from hostlab.topologies.generators import grid

    _print_generated(grid(rows, columns), engine)


@generate_command.command(
    "random-regular", epilog="Example: hostlab generate random-regular 12 3 --seed 7 > random.yaml"
)
@click.argument("nodes", type=click.IntRange(1))
@click.argument("degree", type=click.IntRange(1))
@click.option("--seed", type=int, default=1, show_default=True, help="Another, another network.")
@_engine
def generate_random_regular_command(nodes: int, degree: int, *, seed: int, engine: str) -> None:
    """Print a random connected network of NODES routers with DEGREE links each."""
    from hostlab.topologies.generators import random_regular

    _print_generated(random_regular(nodes, degree, seed), engine)


@generate_command.command(
    "clos", epilog="Example: hostlab generate clos --spines 2 --leaves 4 --hosts 2 > fabric.yaml"
)
@click.option("--spines", type=click.IntRange(1), default=2, show_default=True)
@click.option("--leaves", type=click.IntRange(1), default=4, show_default=True)
@click.option("--hosts", type=click.IntRange(0), default=2, show_default=True, help="At each leaf.")
@_engine
def generate_clos_command(*, spines: int, leaves: int, hosts: int, engine: str) -> None:
    """Print a fabric of leaves, each joined to every spine, with hosts on them."""
    from hostlab.topologies.generators import clos

    _print_generated(clos(spines, leaves, hosts), engine)


@generate_command.command("fat-tree", epilog="Example: hostlab generate fat-tree 4 > tree.yaml")
@click.argument("ports", type=click.IntRange(2))
@_engine
def generate_fat_tree_command(ports: int, *, engine: str) -> None:
    """Print a fat tree of routers with PORTS ports each, and PORTS³/4 hosts."""
    from hostlab.topologies.generators import fat_tree

    _print_generated(fat_tree(ports), engine)


def _print_generated(network: Network, engine: str) -> None:
    from hostlab.topologies.generators import generated

    sys.stdout.write(generated(network, _options(engine)))
