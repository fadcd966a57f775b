"""Capabilities of a file: between setcap's text and the extended attribute `security.capability`.

The attribute (struct vfs_ns_cap_data, linux/capability.h) holds a permitted and an inheritable
mask, one single effective bit for both, and in revision 3 the user who must be root of the user
namespace for it to count. The text is cap_text_formats(7): clauses such as `cap_net_raw+ep` or
`cap_chown,cap_kill=i`, each changing what the ones before it said.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from hostlab.errors import DecodeError, UsageError
from hostlab.linux.capabilities import NAMES, bit_of, names_of

FILE_ATTRIBUTE = "security.capability"
"""The extended attribute that carries a file's capabilities; written with CAP_SETFCAP."""

_REVISION_MASK = 0xFF000000
_REVISION_1, _REVISION_2, _REVISION_3 = 0x01000000, 0x02000000, 0x03000000
_FLAG_EFFECTIVE = 0x000001

_CLAUSE = re.compile(r"(?P<names>[A-Za-z0-9_,]*)(?P<actions>(?:[=+-][eip]*)+)")
_ACTION = re.compile(r"([=+-])([eip]*)")
_ROOTID = re.compile(r"\[rootid=(\d{1,10})\]")


def encode_file_capabilities(text: str, *, rootid: int | None = None) -> bytes:
    """The attribute's value for a text such as `cap_net_raw+ep`.

    `rootid` makes it revision 3, which counts only where that user is root of the user
    namespace; `[rootid=N]` in the text, as `getcap -n` prints it, means the same. `UsageError`
    for a text that means nothing or that one effective bit cannot express.
    """
    permitted = inheritable = effective = 0
    clauses = text.split()
    if clauses and (match := _ROOTID.fullmatch(clauses[-1])):
        rootid = int(match[1])
        clauses.pop()
    if not clauses:
        raise UsageError("file-capabilities", f"no capability in {text!r}", hint="cap_net_raw+ep")
    sets = {"p": 0, "i": 0, "e": 0}
    for clause in clauses:
        sets = _after_clause(clause, sets)
    permitted, inheritable, effective = sets["p"], sets["i"], sets["e"]
    if effective and effective != permitted | inheritable:
        raise UsageError(
            "file-capabilities",
            f"{text!r}: a file has one effective bit for all that it permits or inherits",
            hint="give every capability e, or none",
        )
    if rootid is not None and rootid >= 2**32:
        raise UsageError("file-capabilities", f"{text!r}: user {rootid} is beyond 32 bits")
    half = 0xFFFFFFFF
    magic = _REVISION_2 if rootid is None else _REVISION_3
    value = struct.pack(
        "<5I",
        magic | (_FLAG_EFFECTIVE if effective else 0),
        permitted & half,
        inheritable & half,
        permitted >> 32,
        inheritable >> 32,
    )
    return value if rootid is None else value + struct.pack("<I", rootid)


def _after_clause(clause: str, sets: dict[str, int]) -> dict[str, int]:
    match = _CLAUSE.fullmatch(clause)
    if match is None:
        raise UsageError("file-capabilities", f"{clause!r} is no clause", hint="cap_net_raw+ep")
    everything = (1 << len(NAMES)) - 1
    names = match["names"]
    if names.lower() == "all" or (not names and match["actions"].startswith("=")):
        mask = everything
    elif names:
        mask = 0
        for name in names.split(","):
            mask |= 1 << bit_of(name)
    else:
        raise UsageError("file-capabilities", f"{clause!r} names no capability")
    after = dict(sets)
    for operator, flags in _ACTION.findall(match["actions"]):
        if operator == "=":
            after = {flag: value & ~mask for flag, value in after.items()}
        for flag in flags:
            after[flag] = after[flag] & ~mask if operator == "-" else after[flag] | mask
    return after


class FileCapabilities(NamedTuple):
    """What the attribute of a file says: two masks, one effective bit, perhaps a user."""

    permitted: int
    inheritable: int
    effective: bool
    revision: int
    rootid: int | None

    def __str__(self) -> str:
        """Setcap's text, which `encode_file_capabilities` reads back."""
        groups = (
            (self.permitted & self.inheritable, "ip"),
            (self.permitted & ~self.inheritable, "p"),
            (self.inheritable & ~self.permitted, "i"),
        )
        clauses = []
        for mask, flags in groups:
            names = ",".join("cap_" + n.lower().removeprefix("cap_") for n in names_of(mask))
            if names:
                clauses.append(f"{names}={'e' if self.effective else ''}{flags}")
        text = " ".join(clauses) or "="
        return text if self.rootid is None else f"{text} [rootid={self.rootid}]"


def decode_file_capabilities(value: bytes) -> FileCapabilities:
    """What the attribute's bytes mean; `DecodeError` for a length or revision that is none."""
    if len(value) < 4:
        raise DecodeError("file-capabilities", f"{len(value)} bytes are too few")
    (magic,) = struct.unpack_from("<I", value)
    sizes = {_REVISION_1: (1, 12), _REVISION_2: (2, 20), _REVISION_3: (3, 24)}
    revision, size = sizes.get(magic & _REVISION_MASK, (0, -1))
    if len(value) != size:
        raise DecodeError(
            "file-capabilities", f"{len(value)} bytes with magic {magic:#010x} are no revision"
        )
    words = struct.unpack_from(f"<{(size - 4) // 4}I", value, 4)
    permitted, inheritable = words[0], words[1]
    if revision > 1:
        permitted |= words[2] << 32
        inheritable |= words[3] << 32
    return FileCapabilities(
        permitted=permitted,
        inheritable=inheritable,
        effective=bool(magic & _FLAG_EFFECTIVE),
        revision=revision,
        rootid=words[4] if revision == 3 else None,
    )
