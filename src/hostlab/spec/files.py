"""The files a description gives to a node: inline, copied or filled in."""

from __future__ import annotations

import posixpath
import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from hostlab.errors import Place, SpecError
from hostlab.spec.model import File
from hostlab.spec.shapes import Fields, Said
from hostlab.spec.source import Source, quoted

Read = Callable[[str], bytes]
"""Gives the bytes of a file by its path, relative to the description; OSError when it cannot."""


class Listed(NamedTuple):
    """A file below a directory."""

    path: str
    """Relative to the directory."""
    executable: bool = False


ListFiles = Callable[[str], Sequence[Listed] | None]
"""Gives the regular files below a directory, in order, by its path relative to the description;
None when there is no directory; OSError when it cannot."""

MAX_FILE_BYTES = 64 * 2**20
"""Of one file; of a directory, of all of it."""
MAX_LISTED = 10_000
"""Files of one directory."""


class _Template(string.Template):
    """Variables may have a node's name and a dot in them: `${web-1.address}`."""

    braceidpattern = r"(?a:[_A-Za-z][_A-Za-z0-9]*|[A-Za-z0-9-]+\.address6?)"
    idpattern = r"(?a:[_A-Za-z][_A-Za-z0-9]*)"
    flags = re.NOFLAG


def read_input(source: Source, read: Read | None, said: Said) -> bytes | None:
    """The bytes of a file that the description names; None when that is reported."""
    path: str = said.value
    if read is None:
        source.report("file", f"{quoted(path)} cannot be read from here", said.at)
        return None
    try:
        content = read(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        source.report("file", f"{quoted(path)}: {reason}", said.at)
        return None
    if len(content) > MAX_FILE_BYTES:
        source.report("file", f"{quoted(path)} is longer than {MAX_FILE_BYTES:,} bytes", said.at)
        return None
    return content


def resolve_files(
    source: Source,
    read: Read | None,
    list_files: ListFiles | None,
    path: str,
    said: Said,
    variables: Mapping[str, str],
) -> Iterator[File]:
    """One file with its content, or those of a directory; none when something is reported."""
    fields: Fields = said.value
    if "copy" in fields:
        listed = _list(source, list_files, fields["copy"])
        if listed is not None:
            yield from _directory(source, read, path, said, listed)
            return
        content = read_input(source, read, fields["copy"])
    elif "template" in fields:
        content = _fill(source, read, fields["template"], variables)
    elif "content" in fields:
        content = fields["content"].value
    else:
        if not fields.flawed:
            message = f"the file {quoted(path)} has no content"
            source.report("missing", message, said.key, "say `content`, `copy` or `template`")
        return
    if content is not None:
        yield _file(path, content, fields, 0o644)


def _file(path: str, content: bytes, fields: Fields, mode: int) -> File:
    owner, _, group = fields.value("owner", "root:root").partition(":")
    return File(
        path=path,
        content=content,
        mode=fields.value("mode", mode),
        owner=owner or "root",
        group=group or "root",
        capabilities=fields.value("capabilities", ""),
    )


def _list(source: Source, list_files: ListFiles | None, said: Said) -> Sequence[Listed] | None:
    """The files of a directory that is to be copied; None when it is a file."""
    if list_files is None:
        return None
    try:
        listed = list_files(said.value)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        source.report("file", f"{quoted(said.value)}: {reason}", said.at)
        return ()
    if listed is not None and not listed:
        source.report("file", f"the directory {quoted(said.value)} has no files", said.at)
    return listed


def _directory(
    source: Source, read: Read | None, path: str, said: Said, listed: Sequence[Listed]
) -> Iterator[File]:
    fields: Fields = said.value
    copy = fields["copy"]
    if len(listed) > MAX_LISTED:
        source.report("file", f"{quoted(copy.value)} has more than {MAX_LISTED:,} files", copy.at)
        return
    size_bytes = 0
    for one in listed:
        name = posixpath.join(copy.value, one.path)
        content = read_input(source, read, copy._replace(value=name))
        if content is None:
            return
        size_bytes += len(content)
        if size_bytes > MAX_FILE_BYTES:
            message = f"{quoted(copy.value)} has more than {MAX_FILE_BYTES:,} bytes in it"
            source.report("file", message, copy.at)
            return
        yield _file(
            posixpath.join(path, one.path), content, fields, 0o755 if one.executable else 0o644
        )


def _fill(
    source: Source, read: Read | None, said: Said, variables: Mapping[str, str]
) -> bytes | None:
    inline = "\n" in said.value
    content = str(said.value).encode() if inline else read_input(source, read, said)
    if content is None:
        return None
    try:
        text = content.decode()
    except UnicodeDecodeError:
        source.report("file", f"the template {quoted(said.value)} is not UTF-8", said.at)
        return None
    good = True
    for found in _Template.pattern.finditer(text):
        name = found["named"] or found["braced"]
        if (name is None and found["invalid"] is None) or name in variables:
            continue
        good = False
        if name is None:
            message, hint = "a lone `$` in a template", "write `$$` for a dollar"
        else:
            message = f"a template names the unknown variable {quoted(name)}"
            hint = source.suggest_or_list(name, variables) or "say it under `variables`"
        if inline:
            source.report("template", message, said.at, hint)
        else:
            where = _place_in(said.value, text, found.start())
            source.report_elsewhere(SpecError("template", message, where=where, hint=hint))
    return _Template(text).substitute(variables).encode() if good else None


def _place_in(file: str, text: str, offset: int) -> Place:
    start = text.rfind("\n", 0, offset) + 1
    line = text[start:].split("\n", 1)[0][:200]
    return Place(file, text.count("\n", 0, offset) + 1, offset - start + 1, line)
