"""The page on directives, made from the table."""

from __future__ import annotations

from hostlab.spec.systemd.directives import UNSTAGED, Effect, directives
from hostlab.spec.systemd.directives_exec import EXEC, KILL, RESOURCES

_INTRODUCTION = """\
# Directives of systemd's units

This page is made from the table in `spec/systemd/directives*.py`: `make docs` writes it, and a
test compares the two. `hostlab job check --explain FILE.service` tells the same of one file.

A directive is *implemented*, *partly* (the text says what is missing), or *without effect* (the
text says why). Code in the text is the field of a job, or of what a socket, timer or path says. Any
other key is a warning and counts as not written, but for those that begin with `X-`, which are
other programs'.
"""
_SHARED = "Execution: [Service] (systemd.exec(5), systemd.kill(5), systemd.resource-control(5))"
_NO_JOBS = """\
## [Mount], [Automount], [Swap], [Scope], [Slice]

Units of these types are read and are none of hostlab's jobs; nothing in them has an effect.
"""


def page() -> str:
    """The page's text."""
    table = directives()
    shared = {
        line.split()[0] for text in (EXEC, KILL, RESOURCES) for line in text.split("\n") if line
    }
    sections: dict[str, list[str]] = {}
    counts = dict.fromkeys(Effect, 0)
    for (section, name), row in table.items():
        if section in UNSTAGED or (section == "Socket" and name in shared):
            continue
        counts[row.effect] += 1
        title = _SHARED if section == "Service" and name in shared else f"[{section}]"
        sections.setdefault(title, []).append(f"| `{name}` | {row.effect} | {row.text} |")
    summary = ", ".join(f"{number} {effect}" for effect, number in counts.items())
    parts = [_INTRODUCTION, f"{sum(counts.values())} directives: {summary}.\n"]
    for title, lines in sections.items():
        rows = "\n".join(lines)
        parts.append(f"## {title}\n\n| directive | | |\n|---|---|---|\n{rows}\n")
    return "\n".join([*parts, _NO_JOBS])
