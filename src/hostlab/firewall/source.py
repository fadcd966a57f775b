"""What people have a ruleset in: scripts, dumps, nft files, a directory of them, standard input.

A file says by its first line, or by its content, what it is. A directory is taken as run-parts(8)
takes it: names of letters, digits, `_`, `-` and dots, in the order of their bytes.
"""

from __future__ import annotations

import codecs
import os
import re
import stat
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import msgspec

from hostlab.errors import Place, SpecError, UsageError

STDIN: Final = "-"
STDIN_NAME: Final = "<stdin>"
RUN_PARTS: Final = re.compile(r"[.a-zA-Z0-9_-]+")
MAX_BYTES: Final = 256 << 20
"""Of one file; a set of a million addresses has 20 MB."""
MAX_FILES: Final = 10_000
"""Of a directory."""
SHELLS: Final = {"sh": "sh", "dash": "sh", "bash": "bash", "zsh": "zsh"}
"""An interpreter's name -> the shell that plays it."""


class Kind(StrEnum):
    """What a file is."""

    SCRIPT = "script"
    DUMP = "dump"
    """Of iptables-save, or ip6tables-save."""
    NFT = "nft"
    IPSET = "ipset"


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A file, or a piece of one, that one program takes."""

    kind: Kind
    path: str
    """As it is shown in places."""
    text: str
    first_line: int = 1
    """Where the text begins in its file."""
    is_whole: bool = True
    """The text is the whole file, so that the file itself can be used."""
    shell: str = ""
    """Of a script that says which: sh, bash or zsh."""
    options: tuple[str, ...] = ()
    """What its first line gives the shell."""
    is_ipv6: bool = False
    """Of a dump."""
    variant: str = ""
    """Of a dump that says it: nft or legacy; else it is the machine's own choice."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What a ruleset is made from."""

    path: str
    """As the user named it."""
    parts: tuple[Part, ...]
    is_directory: bool = False
    left_out: tuple[str, ...] = ()
    """Files of a directory whose names run-parts does not take."""


def read_source(path: str, *, stdin: bytes = b"", shell: str | None = None) -> Source:
    """Find out what is there; SpecError for what is nothing of the kind.

    `shell` is for scripts that do not say theirs.
    """
    if path == STDIN:
        return Source(path=STDIN_NAME, parts=tuple(_parts(STDIN_NAME, stdin, shell, sure=False)))
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            return _directory(path, shell)
        if stat.S_ISFIFO(found.st_mode):  # <(…) of a shell
            with open(path, "rb") as file:
                return read_source(STDIN, stdin=file.read(MAX_BYTES), shell=shell)
        if not stat.S_ISREG(found.st_mode):
            raise UsageError("no-ruleset", f"{path} is neither a file nor a directory")
        parts = tuple(_parts(path, _content(path), shell, sure=False))
    except OSError as error:
        raise UsageError("no-file", f"{error.filename or path}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError("no-file", f"{path!r}: {error}") from None
    return Source(path=path, parts=parts)


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UsageError("too-big", f"{path} has more than {MAX_BYTES >> 20} MiB")
    return data


def _directory(path: str, shell: str | None) -> Source:
    names = sorted(os.listdir(path), key=os.fsencode)
    if len(names) > MAX_FILES:
        raise UsageError("too-many", f"{path} has more than {MAX_FILES} files")
    parts: list[Part] = []
    left_out = []
    for name in names:
        file = os.path.join(path, name)
        if not os.path.isfile(file):
            continue
        if not RUN_PARTS.fullmatch(name):
            left_out.append(name)
            continue
        parts += _parts(file, _content(file), shell, sure=True)
    if not parts:
        raise UsageError(
            "no-ruleset",
            f"{path} has no file that run-parts would take",
            hint="names are of letters, digits, `_`, `-` and dots",
        )
    return Source(path=path, parts=tuple(parts), is_directory=True, left_out=tuple(left_out))


_SHEBANG: Final = re.compile(r"#![ \t]*(\S+)[ \t]*(.*)")
_DUMP: Final = re.compile(r"(\*[a-z]+\s*$|:\S+ (-|[A-Z]+)( |$)|\[\d+:\d+\] -[AI] )")
_NFT: Final = re.compile(
    r"(table\s+[\w-]+[\s\w-]*(\{|$)|define\s+\w+\s*=|undefine\s|redefine\s|include\s+[\"']"
    r"|flush\s+ruleset|(add|create|delete|destroy|flush|insert|replace|rename|reset|list)\s+"
    r"(table|chain|rule|set|map|element|flowtable|counter|quota|limit|ct|synproxy|ruleset)\b)"
)
_IPSET: Final = re.compile(
    r"(create|-N|add|-A)\s+\S+\s+((hash|bitmap|list):\S+|[\da-fA-F.:/]+([\s,]|$))"
)
_TOOLS: Final = re.compile(
    r"(^|[\s/;&|({`$\"'])(ip6?tables(-\w+)*|ebtables|arptables|ipset|nft|sysctl|ip|main)\s"
    r"|\$\{?(IPT|IP6T|IPTABLES|IP6TABLES|NFT|IPSET)\w*",
    re.MULTILINE | re.IGNORECASE,
)


_MARKS: Final = {
    codecs.BOM_UTF8: "UTF-8 with a mark",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def _parts(path: str, data: bytes, shell: str | None, *, sure: bool) -> Iterator[Part]:
    """What a file is made of; a file of a directory of rules is a script unless it says else."""
    for mark, name in _MARKS.items():
        if data.startswith(mark):
            raise SpecError(
                "no-ruleset",
                f"{path} begins with a byte order mark, which no tool of a packet filter takes",
                where=Place(path, 1, 1),
                hint=f"it is {name}: save it as UTF-8 without a mark",
            )
    if b"\0" in data[:MAX_BYTES]:
        raise SpecError("no-ruleset", f"{path} is no text", where=Place(path, 1, 1))
    text = data.decode(errors="replace")
    first, _, _ = text.partition("\n")
    kind, named, options = _interpreter(path, first)
    if kind is None:
        kind = _by_content(path, text, sure=sure)
    if kind is Kind.DUMP:
        yield from _families(path, text)
    else:
        chosen = (named or shell or _by_name(path) or "") if kind is Kind.SCRIPT else ""
        yield Part(kind=kind, path=path, text=text, shell=chosen, options=options)


def _interpreter(path: str, first: str) -> tuple[Kind | None, str, tuple[str, ...]]:
    found = _SHEBANG.match(first)
    if found is None:
        return None, "", ()
    words = [found[1], *found[2].split()]
    if words[0].endswith("/env"):
        words = words[1:]
        if words[:1] == ["-S"]:
            words = words[1:]
    name = os.path.basename(words[0]) if words else ""
    if name in SHELLS:
        return Kind.SCRIPT, SHELLS[name], tuple(words[1:])
    if name == "nft":
        return Kind.NFT, "", ()
    if name.endswith("tables-restore"):
        return Kind.DUMP, "", ()
    raise SpecError(
        "no-shell",
        f"a script for {name or 'no program'} is not run here",
        where=Place(path, 1, 1, first),
        hint="scripts of sh, bash and zsh are, iptables-save's output, and nft files",
    )


def _by_content(path: str, text: str, *, sure: bool) -> Kind:
    lines = (line.strip() for line in text.split("\n"))
    line = next((each for each in lines if each and not each.startswith("#")), None)
    if line is None:
        if sure and text.strip():
            return Kind.SCRIPT
        if re.search(r"^# Generated by ip6?tables", text):
            return Kind.DUMP
        if not sure:
            raise SpecError("no-ruleset", f"{path} has no rule in it", where=Place(path, 1, 1))
        return Kind.SCRIPT
    for pattern, kind in ((_DUMP, Kind.DUMP), (_IPSET, Kind.IPSET), (_NFT, Kind.NFT)):
        if pattern.match(line):
            return kind
    if sure or _by_name(path) or _TOOLS.search(text):
        return Kind.SCRIPT
    raise SpecError(
        "no-ruleset",
        f"{path} is no script, no output of iptables-save or ipset save, and no nft file",
        where=Place(path, text[: text.find(line)].count("\n") + 1, 1, line[:200]),
        hint="a script says its shell in its first line: #!/bin/sh",
    )


def _by_name(path: str) -> str | None:
    return SHELLS.get(path.rpartition(".")[2]) if "." in path else None


_HEADER: Final = re.compile(r"# Generated by (ip6?tables)(?:-(nft|legacy))?-save")
_TABLE: Final = re.compile(r"\*(\w+)")
_IPV6: Final = re.compile(
    r"^(?=-|\[)[^\"\n]*?(\s([\da-fA-F:]*::[\da-fA-F:.]*|([\da-fA-F]{1,4}:){7}[\da-fA-F]{1,4})(/|\s|$)"
    r"|icmp6|icmpv6|ipv6-icmp)",
    re.MULTILINE,
)
"""An address of IPv6 has `::` or seven colons; a time of day and an Ethernet address have not."""
_MAYBE_IPV6: Final = re.compile(r":(:|[\da-fA-F]{1,4}:)|icmp6|icmpv6|ipv6-icmp")
"""Stands in whatever `_IPV6` finds, and is looked for a dozen times as fast."""


def _families(path: str, text: str) -> Iterator[Part]:
    """A dump's tables of IPv4 and of IPv6: another header, or a table a second time, divides."""
    lines = text.split("\n")
    starts = [0]
    seen: set[str] = set()
    family = ""
    for number, line in enumerate(lines):
        if not line.startswith(("#", "*")):
            continue
        header, table = _HEADER.match(line), _TABLE.match(line)
        if (header and family and header[1] != family) or (table and table[1] in seen):
            before = number
            while table and before and lines[before - 1].startswith("#"):
                before -= 1
            if before > starts[-1]:
                starts.append(before)
            seen, family = set(), ""
        if header:
            family = header[1]
        if table:
            seen.add(table[1])
    if len(starts) > 2:
        line = lines[starts[2]]
        where = Place(path, starts[2] + 1, 1, line)
        raise SpecError("dump", "the same table stands here a third time", where=where)
    ends = [*starts[1:], len(lines)]
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        piece = "\n".join(lines[start:end]) + ("\n" if end < len(lines) else "")
        yield Part(
            kind=Kind.DUMP,
            path=path,
            text=piece,
            first_line=start + 1,
            is_whole=len(starts) == 1,
            variant=(said[2] or "") if (said := _HEADER.search(piece)) else "",
            is_ipv6=_is_ipv6(path, piece, second=number > 0),
        )


def _is_ipv6(path: str, text: str, *, second: bool) -> bool:
    if header := _HEADER.search(text):
        return header[1] == "ip6tables"
    if _MAYBE_IPV6.search(text) and _IPV6.search(text):
        return True
    name = os.path.basename(path)
    return second or bool(re.search(r"(v6|ip6|6tables)", name))


def shell_of(source: Source) -> tuple[str, tuple[str, ...]]:
    """The one shell that runs a source's scripts, and its options."""
    scripts = [part for part in source.parts if part.kind is Kind.SCRIPT]
    said = {part.shell for part in scripts} - {""}
    others = sorted(said - {"sh"})
    if len(others) > 1:
        raise UsageError(
            "shells",
            f"{source.path} has scripts of {' and '.join(others)}, and one shell reads them",
            hint="say which with --shell, in files without a first line",
        )
    return others[0] if others else "sh", scripts[0].options if len(
        source.parts
    ) == 1 and scripts else ()
