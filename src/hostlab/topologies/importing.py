"""Foreign files of networks as descriptions: GraphML, DOT, lists of edges."""

from __future__ import annotations

import os.path
from collections.abc import Callable, Mapping
from typing import Final

from hostlab.spec.importing import Imported, Notes
from hostlab.spec.source import START, Source
from hostlab.topologies import dot, edges, graphml
from hostlab.topologies.description import USUAL, Options, describe
from hostlab.topologies.network import Network

Reader = Callable[[Source, Notes], Network]

READERS: Final[Mapping[str, tuple[Reader, str]]] = {
    "graphml": (graphml.read, "GraphML"),
    "dot": (dot.read, "a graph of Graphviz"),
    "edges": (edges.read, "a list of edges"),
}
"""Format -> its reader, and what people call such a file."""


def import_network(text: str, *, file: str, kind: str, options: Options = USUAL) -> Imported:
    """The description of a network, with notes on everything that is not in it.

    SpecErrors with every error when the file is none of its kind.
    """
    read, said = READERS[kind]
    source = Source(text, file)
    notes = Notes(source)
    network = read(source, notes)
    if not source.failed and all(vertex.is_segment for vertex in network.vertices):
        source.report("import", "there is no node in it", START)
    source.raise_errors()
    stem = os.path.splitext(os.path.basename(file))[0]
    return notes.done(
        "\n" + describe(network, notes, name=stem, options=options), kind_of_file=said
    )
