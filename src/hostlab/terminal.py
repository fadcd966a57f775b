"""Text of others for a terminal: what hosts, files and reports say must not command it."""

from __future__ import annotations


def plain(text: str) -> str:
    """The text with what would move a cursor, change colours or turn the direction told as escapes.

    Lines stay lines, and tabs tabs; what is plain stays as it is.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape").decode()
        for each in text
    )
