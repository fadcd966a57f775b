"""The parts of a node that need nothing but its own fields, each as the type it becomes."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator

from hostlab.spec import capabilities, names
from hostlab.spec.files import Read, read_input
from hostlab.spec.model import Limits, Publish, User, Volume
from hostlab.spec.shapes import Fields, Said
from hostlab.spec.source import Mark, Source, Wrong, quoted
from hostlab.spec.units import Address, Endpoint

FIRST_UID = 1000
"""What useradd(8) starts with, as login.defs of Debian has it."""
FORWARDING = (("net.ipv4.ip_forward", "1"), ("net.ipv6.conf.all.forwarding", "1"))

Published = dict[tuple[int, str], dict[Address | None, tuple[str, Mark]]]
"""Who publishes a port and protocol, on which address, and where it is said."""


def pairs(fields: Fields) -> tuple[tuple[str, str], ...]:
    """A mapping of texts, in the order of the file."""
    return tuple((key, said.value) for key, said in fields.items())


def forwards(fields: Fields) -> bool:
    """Whether it forwards packets: as it says, else because it has a routing daemon."""
    return fields.flag("forwarding", default=fields.value("routing") is not None)


def sysctls(fields: Fields) -> tuple[tuple[str, str], ...]:
    """What forwarding means, and then what was said."""
    found = dict(FORWARDING) if forwards(fields) else {}
    found.update(pairs(fields.value("sysctls", Fields())))
    return tuple(found.items())


def limits(fields: Fields) -> Limits:
    """What it may use."""
    limits: Fields = fields.value("limits", Fields())
    return Limits(**{name: said.value for name, said in limits.items()})


def expand(listed: list[Said]) -> tuple[str, ...]:
    """A list of capabilities, sorted; `ALL` is every one."""
    found = {said.value for said in listed}
    return tuple(sorted(capabilities.ALL if "ALL" in found else found))


def capability_set(fields: Fields) -> tuple[str, ...]:
    """What is left out wins over what is added, except that `drop: [ALL]` comes first."""
    base = set(capabilities.DEFAULT)
    if "exactly" in fields:
        base = set(expand(fields.value("exactly")))
    add = set(expand(fields.value("add", [])))
    drop = fields.value("drop", [])
    if any(said.value == "ALL" for said in drop):
        return tuple(sorted(add))
    return tuple(sorted((base | add) - set(expand(drop))))


def users(source: Source, fields: Fields) -> Iterator[User]:
    """Its users; a number left out is the lowest free from FIRST_UID on."""
    said_users: Fields = fields.value("users", Fields())
    taken: dict[int, str] = {}
    for name, said in said_users.items():
        if "uid" not in said.value:
            continue
        uid = said.value["uid"]
        if uid.value in taken:
            message = f"{quoted(name)} and {quoted(taken[uid.value])} both have the uid {uid.value}"
            source.report("clash", message, uid.at)
        taken[uid.value] = name
    free = FIRST_UID
    for name, said in said_users.items():
        user: Fields = said.value
        uid = user.value("uid")
        if uid is None:
            while free in taken:
                free += 1
            uid = free
            taken[uid] = name
        yield User(
            name=name,
            uid=uid,
            gid=user.value("gid", uid),
            home=user.value("home", f"/home/{name}"),
            shell=user.value("shell", "/bin/sh"),
            groups=tuple(g.value for g in user.value("groups", [])),
        )


def volumes(source: Source, fields: Fields, directory: str) -> Iterator[Volume]:
    """Its volumes, one at a target."""
    targets: dict[str, Said] = {}
    for said in fields.value("volumes", []):
        if said.value.flawed:
            continue
        target = said.value["target"]
        if target.value in targets:
            first = source.place(targets[target.value].at)
            message = f"{quoted(target.value)} has a volume already, at {first}"
            source.report("clash", message, target.at)
            continue
        targets[target.value] = target
        path = _volume_source(source, said.value["source"], directory)
        if path is not None:
            read_only = said.value.flag("read_only")
            yield Volume(source=path, target=target.value, writable=not read_only)


def _volume_source(source: Source, said: Said, directory: str) -> str | None:
    """A name, or an absolute path of the machine."""
    word: str = said.value
    if word.startswith("/") or word in (".", "..") or word.startswith(("./", "../")):
        return posixpath.normpath(posixpath.join(directory, word))
    try:
        return names.name(word)
    except Wrong as wrong:
        hint = f"a directory beside the description is `./{word}`"
        source.report("value", wrong.message, said.at, hint)
        return None


def publish(source: Source, published: Published, name: str, fields: Fields) -> Iterator[Publish]:
    """Its published ports; one that another node has is an error that names both."""
    for said in fields.value("publish", []):
        entry: Fields = said.value
        if entry.flawed:
            continue
        port, protocol = entry.value("port"), entry.value("protocol", "tcp")
        address: Address | None = entry.value("address")
        others = published.setdefault((port, protocol), {})
        holder = _holder(others, address)
        if holder is not None:
            message = (
                f"{quoted(name)} and {quoted(holder[0])} ({source.place(holder[1])}) "
                f"both publish {port}/{protocol}"
            )
            source.report("clash", message, said.at, "give one of them another port")
            continue
        others[address] = (name, said.at)
        yield Publish(
            port=port,
            inner=entry.value("inner", port),
            protocol=protocol,
            address=None if address is None else str(address),
        )


def _holder(
    others: dict[Address | None, tuple[str, Mark]], address: Address | None
) -> tuple[str, Mark] | None:
    """Whose socket at the same port would be in the way of one at this address."""
    if address is not None and not address.is_unspecified:
        any_address = type(address)(0)
        return others.get(address) or others.get(any_address) or others.get(None)
    for other, holder in others.items():
        if address is None or other is None or other.version == address.version:
            return holder
    return None


def ports(fields: Fields) -> set[Endpoint]:
    """What a link to this node tells: what it exposes, and where its published ports lead."""
    ports = {said.value for said in fields.value("expose", [])}
    for said in fields.value("publish", []):
        entry: Fields = said.value
        if "port" in entry:
            inner = entry.value("inner", entry.value("port"))
            ports.add(Endpoint(inner, entry.value("protocol", "tcp")))
    return ports


def seccomp(source: Source, fields: Fields, read: Read | None) -> str:
    """`default`, `unconfined`, or the profile's JSON text."""
    said = fields.get("seccomp")
    if said is None or said.value in ("default", "unconfined"):
        return said.value if said is not None else "default"
    content = read_input(source, read, said)
    if content is None:
        return "default"
    try:
        profile = json.loads(content)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "nested too deep"
        message = f"{quoted(said.value)} is not JSON: {reason}"
        source.report("file", message, said.at)
        return "default"
    if not isinstance(profile, dict) or "defaultAction" not in profile:
        message = f"{quoted(said.value)} is not a seccomp profile: it has no `defaultAction`"
        source.report("file", message, said.at)
        return "default"
    return content.decode()
