"""Lists of edges: two names a line, then `key=value`, or a dictionary as networkx writes it.

`#` begins a comment, names with spaces stand between quotation marks, a name alone is a node
without links.
"""

from __future__ import annotations

import ast
import shlex

from hostlab.spec.importing import Notes
from hostlab.spec.source import Source, Spot, quoted
from hostlab.topologies.attributes import Attributes, Reading
from hostlab.topologies.network import Draft, Network


def read(source: Source, notes: Notes) -> Network:
    """The network of a file; what is wrong is reported to the source, with its line."""
    draft, reading = Draft(), Reading(notes)
    for number, line in enumerate(source.lines):
        at = Spot(number, len(line) - len(line.lstrip()))
        text, brace, rest = line.partition("{")
        try:
            words = shlex.split(text, comments=True)
        except ValueError:
            source.report("edges", "a quotation mark is not closed", at)
            continue
        if not words:
            continue
        is_said = bool(brace) and "#" not in text
        said = _dictionary(source, brace + rest, at) if is_said else {}
        names = _pairs(words, said)
        if len(names) > 2:
            message = f"two names and `key=value` belong in a line; {quoted(names[2])} is neither"
            source.report("edges", message, at, "write names with spaces as 'New York'")
            continue
        for name in names:
            draft.mention(name, at)
        if len(names) == 2:
            draft.edges.append(reading.edge((names[0], names[1]), Attributes(reading, said, at)))
    if not draft.vertices and not source.failed:
        source.report("edges", "the file is empty", Spot(0, 0))
    reading.done()
    return draft.done()


def _pairs(words: list[str], said: dict[str, str]) -> list[str]:
    """The words that are names; those that are `key=value` go into `said`."""
    names: list[str] = []
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key and len(names) >= 2:
            said[key] = value
        else:
            names.append(word)
    return names


def _dictionary(source: Source, text: str, at: Spot) -> dict[str, str]:
    try:
        value = ast.literal_eval(text[:1000].partition("#")[0].strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = None
    if not isinstance(value, dict):
        source.report("edges", f"{quoted(text.strip())} is not a dictionary", at)
        return {}
    return {str(key): str(each) for key, each in value.items()}
