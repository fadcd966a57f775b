"""XML as a tree of elements that know where they stand, from documents that nobody vouches for.

A document with a document type is refused where that begins: entities can expand without end, or
name files of the machine (CWE-776, CWE-611), and no GraphML has one. What could grow is bounded.
"""

from __future__ import annotations

from typing import Final
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from hostlab.spec.source import Mark, Source, Spot

MAX_DEPTH: Final = 100
_NAMESPACE_END: Final = "}"


class _Refused(Exception):
    """Parsing has ended; the source knows why."""


def parse(source: Source) -> tuple[Element, dict[Element, Mark]] | None:
    """The document's root and each element's mark; None when it was reported as wrong."""
    reader = _Reader(source)
    try:
        return reader.parse()
    except _Refused:
        return None
    except expat.ExpatError as error:
        at = Spot(max(error.lineno - 1, 0), error.offset)
        source.report("xml", f"this is not XML: {expat.errors.messages[error.code]}", at)
        return None


class _Reader:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.builder = TreeBuilder()
        self.marks: dict[Element, Mark] = {}
        self.depth = 0
        self.parser = expat.ParserCreate(namespace_separator=_NAMESPACE_END)
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.builder.data
        self.parser.StartDoctypeDeclHandler = self.doctype

    def parse(self) -> tuple[Element, dict[Element, Mark]]:
        # Of a text, expat does not believe what it says of its own encoding.
        self.parser.Parse(self.source.text, True)  # noqa: FBT003
        return self.builder.close(), self.marks

    def here(self) -> Mark:
        return Spot(self.parser.CurrentLineNumber - 1, self.parser.CurrentColumnNumber)

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            message = f"elements are more than {MAX_DEPTH} deep in each other"
            self.source.report("xml", message, self.here())
            raise _Refused
        element = self.builder.start(_local(name), {_local(k): v for k, v in attributes.items()})
        self.marks[element] = self.here()

    def end(self, name: str) -> None:
        self.depth -= 1
        self.builder.end(_local(name))

    def doctype(self, *_: object) -> None:
        message = "a document type is refused: its entities could expand without end"
        self.source.report("xml", message, self.here(), "take the DOCTYPE out; GraphML has none")
        raise _Refused


def _local(name: str) -> str:
    """A name without its namespace: GraphML's has been spelt in several ways."""
    return name.rpartition(_NAMESPACE_END)[2]
