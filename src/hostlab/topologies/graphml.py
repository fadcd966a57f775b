"""GraphML (graphml.graphdrawing.org), as the Internet Topology Zoo, yEd and networkx write it.

Nodes, edges and hyperedges of the file's graph are read with their attributes. Graphs in nodes and
ports, which a network of hosts has no use for, are told and left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from xml.etree.ElementTree import Element

from hostlab.spec.importing import Notes
from hostlab.spec.source import START, Mark, Source, quoted
from hostlab.topologies.attributes import Attributes, Reading
from hostlab.topologies.markup import parse
from hostlab.topologies.network import Draft, Network, Vertex

_NAMES: Final = ("Network", "label", "name")
"""Attributes of a graph that are its name; the first are the Zoo's."""


def read(source: Source, notes: Notes) -> Network:
    """The network of a file; what is wrong is reported to the source."""
    parsed = parse(source)
    if parsed is None:
        return Network()
    root, marks = parsed
    graphs = root.findall("graph") if root.tag == "graphml" else []
    if not graphs:
        source.report("graphml", "there is no `graph` in a `graphml` here", START)
        return Network()
    for other in graphs[1:]:
        notes.note(marks[other], "a second graph is left out")
    return _Reader(source, notes, root, marks).read(graphs[0])


class _Reader:
    def __init__(
        self, source: Source, notes: Notes, root: Element, marks: Mapping[Element, Mark]
    ) -> None:
        self.source = source
        self.notes = notes
        self.reading = Reading(notes)
        self.marks = marks
        self.keys = {key.get("id", ""): key for key in root.findall("key")}
        self.draft = Draft()

    def read(self, graph: Element) -> Network:
        of_graph = self.data(graph, "graph")
        names = filter(None, (of_graph.get(name, "").strip() for name in _NAMES))
        self.draft.name = next(names, graph.get("id", ""))
        labels = ("label", "name")
        nodes = [(node, self.attributes(node, "node")) for node in graph.findall("node")]
        is_labelled = any(said.has(*labels) for _, said in nodes)
        for node, said in nodes:
            self.node(node, said, is_labelled=is_labelled)
        for child in graph:
            if child.tag == "edge":
                ends = (child.get("source", ""), child.get("target", ""))
                self.edge(child, ends)
            elif child.tag == "hyperedge":
                self.edge(child, tuple(e.get("node", "") for e in child.findall("endpoint")))
        if graph.get("edgedefault") == "directed":
            self.reading.merge_opposites(self.draft, self.marks[graph])
        self.reading.done()
        return self.draft.done()

    def node(self, node: Element, said: Attributes, *, is_labelled: bool) -> None:
        name = node.get("id", "")
        if name in self.draft.vertices:
            at = self.source.place(self.draft.vertices[name].at)
            message = f"two nodes have the id {quoted(name)}, the first at line {at.line}"
            self.source.report("graphml", message, said.at)
        if node.find("graph") is not None:
            said.note(f"the graph in node {quoted(name)} is left out")
        if node.find("port") is not None:
            self.reading.leave_out("nodes", ("port",))
        self.draft.vertices[name] = self.reading.vertex(name, said, is_labelled=is_labelled)

    def edge(self, edge: Element, ends: tuple[str, ...]) -> None:
        said = self.attributes(edge, "edge" if edge.tag == "edge" else "hyperedge")
        for end in ends:
            if end not in self.draft.vertices:
                self.source.report("graphml", f"there is no node {quoted(end)}", said.at)
                self.draft.vertices[end] = Vertex(id=end, at=said.at)
        self.draft.edges.append(self.reading.edge(ends, said))

    def attributes(self, element: Element, sort: str) -> Attributes:
        return Attributes(self.reading, self.data(element, sort), self.marks[element])

    def data(self, element: Element, sort: str) -> dict[str, str]:
        """An element's attributes by their names; the defaults of those that it does not have."""
        found: dict[str, str] = {}
        for name, key in self.keys.items():
            default = key.find("default")
            if default is not None and key.get("for") in (sort, "all"):
                found[key.get("attr.name") or name] = default.text or ""
        for data in element.findall("data"):
            said = data.get("key", "")
            key_of = self.keys.get(said)
            name = said if key_of is None else key_of.get("attr.name") or said
            drawn = data.find(".//NodeLabel")  # yEd draws its nodes in an element of its own.
            if drawn is None and len(data):
                self.reading.leave_out("nodes" if sort == "node" else "links", (name,))
            elif drawn is not None:
                found["label"] = drawn.text or ""
            else:
                found[name] = data.text or ""
        return found
