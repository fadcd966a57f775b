"""What a script did beside rules, as operations that can be shown, done elsewhere and undone.

Nobody follows the script for it: the network namespace is read before and after, and the difference
is what it did. Network sysctls, addresses, routes, routing rules and links are what a namespace has
of its own; ipsets are part of the ruleset. What stands behind `main` was not done here at all.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec

from hostlab import typed
from hostlab.errors import Failed, Place
from hostlab.firewall.kernel import Run, tool
from hostlab.linux.entering import from_inside

SYSCTLS: Final = "/proc/sys/net"
VOLATILE: Final = frozenset({"nf_conntrack_count", "tcp_fastopen_key", "stable_secret", "flush"})
"""Sysctls that change by themselves, or cannot be read."""
SHARED: Final = {
    "net.ipv4.ip_forward": ("net.ipv4.conf.", ".forwarding"),
    "net.ipv6.conf.all.forwarding": ("net.ipv6.conf.", ".forwarding"),
    "net.ipv6.conf.all.disable_ipv6": ("net.ipv6.conf.", ".disable_ipv6"),
}
"""A sysctl -> the others that the kernel sets with it, to the same value."""
REDIRECTS: Final = ("net.ipv4.conf.all.accept_redirects", "net.ipv4.conf.default.accept_redirects")
"""Which are set to the opposite of ip_forward (net/ipv4/devinet.c, inet_forward_change)."""
_LINKS_OWN: Final = re.compile(r"net.ipv6.conf.*.mtu")
"""It follows the link's."""
MAX_BYTES: Final = 64 << 20
VALUE_BYTES: Final = 1 << 13
"""Of a sysctl at once: the kernel makes and clears so much room for it (proc_sysctl.c)."""
_STATE: Final = (
    ("links", ("ip", "-j", "-d", "link")),
    ("addresses", ("ip", "-j", "address")),
    ("routes", ("ip", "-4", "route", "show", "table", "all")),
    ("routes6", ("ip", "-6", "route", "show", "table", "all")),
    ("rules", ("ip", "-4", "rule")),
    ("rules6", ("ip", "-6", "rule")),
)
_CONDITIONS: Final = frozenset({"dead", "linkdown", "offload", "trap", "rt_offload", "rt_trap"})
"""What `ip route` shows of a route and does not take."""


class Kind(StrEnum):
    """What an operation changes."""

    SYSCTL = "sysctl"
    ADDRESS = "address"
    ROUTE = "route"
    RULE = "rule"
    LINK = "link"
    MAIN = "main"
    """A command for the real machine only, which nobody has tried."""


class Operation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change, as commands."""

    kind: Kind
    subject: str
    """What it is about: a sysctl's name, an interface, `ip`'s words for a route or a rule."""
    do: tuple[str, ...]
    undo: tuple[str, ...] = ()
    """Empty: it cannot be taken back."""
    place: Place | None = None

    def describe(self) -> str:
        """As a person would type it."""
        return shlex.join(self.do)


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A network namespace's settings that are no rules."""

    sysctls: dict[str, str]
    links: dict[str, tuple[bool, int, str]]
    """Name -> is up, MTU, kind."""
    addresses: frozenset[tuple[str, str]]
    """Interface, and address with prefix length."""
    routes: frozenset[tuple[str, ...]]
    """`ip`'s words, the family first: -4 or -6."""
    rules: frozenset[tuple[str, ...]]


def look(run: Run, pid: int) -> Network:
    """The network of a node (`pid` is in it, `run` runs in it) as it is now."""
    found = _state(run)
    return Network(
        sysctls=read_sysctls(pid),
        links={each["ifname"]: _link(each) for each in _decoded(found["links"])},
        addresses=frozenset(_addresses(_decoded(found["addresses"]))),
        routes=frozenset((*_routes("-4", found["routes"]), *_routes("-6", found["routes6"]))),
        rules=frozenset((*_rules("-4", found["rules"]), *_rules("-6", found["rules6"]))),
    )


def _state(run: Run) -> dict[str, str]:
    """All of `ip`'s tables by one shell: a family that the kernel lacks has none."""
    line = "; printf '\\0'; ".join(shlex.join(argv) + " 2>/dev/null" for _, argv in _STATE)
    answer = tool(run, ("sh", "-c", f"command -v ip >/dev/null || exit 127; {line}; exit 0"))
    texts = answer.stdout.decode(errors="replace").split("\0")
    if len(texts) != len(_STATE):
        raise Failed("ip", "ip does not tell the network's state", hint="apt-get install iproute2")
    return {name: text for (name, _), text in zip(_STATE, texts, strict=True)}


def _decoded(text: str) -> list[dict[str, Any]]:
    try:
        return typed.decode(text or "[]", list[dict[str, Any]])
    except msgspec.DecodeError as error:
        raise Failed("ip", f"ip -j: {error}") from None


def _link(row: Mapping[str, Any]) -> tuple[bool, int, str]:
    kind = row.get("linkinfo", {}).get("info_kind", "")
    return "UP" in row.get("flags", ()), int(row.get("mtu", 0)), str(kind)


def _addresses(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for row in rows:
        for each in row.get("addr_info", ()):
            made = each.get("protocol", "").startswith("kernel") or each.get("dynamic")
            link_local = each.get("family") == "inet6" and each.get("scope") == "link"
            if not made and not link_local and "local" in each:
                yield row["ifname"], f"{each['local']}/{each['prefixlen']}"


def _routes(family: str, text: str) -> Iterator[tuple[str, ...]]:
    for line in text.splitlines():
        words = [word for word in line.split() if word not in _CONDITIONS]
        if not words or "table local" in line or "proto kernel" in line or "proto ra" in line:
            continue
        yield (family, *words)


def _rules(family: str, text: str) -> Iterator[tuple[str, ...]]:
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        if rest:
            yield (family, "pref", number, *rest.split())


def read_sysctls(pid: int) -> dict[str, str]:
    """Every readable sysctl of `net.` in the network namespace of a process."""

    def work() -> tuple[bytes, Sequence[int]]:
        fd = os.memfd_create("sysctls", os.MFD_CLOEXEC)
        fields = []
        for directory, _, names in os.walk(SYSCTLS):
            for name in names:
                path = f"{directory}/{name}"
                if name not in VOLATILE and (value := _value(path)) is not None:
                    fields += [path.encode(), value]
        with open(fd, "wb", closefd=False) as file:
            file.write(b"\0".join(fields))
        return b"", (fd,)

    _, fds = from_inside(pid, ("user", "net"), work)
    with os.fdopen(fds[0], "rb") as file:
        file.seek(0)
        fields = file.read(MAX_BYTES).decode(errors="replace").split("\0")
    start = len("/proc/sys/")
    return {
        sysctl_name(path[start:]): value
        for path, value in zip(fields[::2], fields[1::2], strict=False)
    }


def _value(path: str) -> bytes | None:
    """A sysctl's; None of one that cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        parts = [os.read(fd, VALUE_BYTES)]
        while len(parts[-1]) == VALUE_BYTES and len(parts) < MAX_BYTES // VALUE_BYTES:
            parts.append(os.read(fd, VALUE_BYTES))
        return b"".join(parts).strip()
    except OSError:
        return None
    finally:
        os.close(fd)


def sysctl_name(path: str) -> str:
    """sysctl(8)'s name: with dots, or with slashes where an interface's name has a dot."""
    return path if "." in path else path.replace("/", ".")


def difference(before: Network, after: Network) -> tuple[Operation, ...]:
    """What leads from one to the other, in an order in which it can be done."""
    return (
        *_sysctl_changes(before.sysctls, after.sysctls),
        *_link_changes(before.links, after.links),
        *_address_changes(before, after),
        *_table_changes(Kind.ROUTE, before.routes, after.routes, before, after),
        *_table_changes(Kind.RULE, before.rules, after.rules, before, after),
    )


def _sysctl_changes(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Operation]:
    changed = {
        name: value
        for name, value in after.items()
        if before.get(name, value) != value and not _LINKS_OWN.fullmatch(name)
    }
    for leader, (start, end) in SHARED.items():
        for name in [n for n in changed if n.startswith(start) and n.endswith(end)]:
            if name != leader and changed.get(leader) == changed[name]:
                del changed[name]
    forwarding = changed.get("net.ipv4.ip_forward")
    for name in REDIRECTS:
        if forwarding is not None and changed.get(name) == str(int(forwarding == "0")):
            del changed[name]
    for name, value in sorted(changed.items()):
        yield sysctl(name, before[name], value)


def sysctl(name: str, old: str | None, new: str) -> Operation:
    """Setting a sysctl; without an old value there is no way back."""
    undo = ("sysctl", "-qw", f"{name}={old}") if old is not None else ()
    return Operation(
        kind=Kind.SYSCTL, subject=name, do=("sysctl", "-qw", f"{name}={new}"), undo=undo
    )


def _link_changes(
    before: Mapping[str, tuple[bool, int, str]], after: Mapping[str, tuple[bool, int, str]]
) -> Iterator[Operation]:
    for name in sorted(before.keys() - after.keys()):
        yield Operation(kind=Kind.LINK, subject=name, do=("ip", "link", "delete", name))
    for name, (is_up, mtu, kind) in sorted(after.items()):
        was_up, old_mtu, _ = before.get(name, (False, mtu, ""))
        if name not in before:
            do = ("ip", "link", "add", name, *(("type", kind) if kind else ()))
            yield Operation(
                kind=Kind.LINK, subject=name, do=do, undo=("ip", "link", "delete", name)
            )
        if mtu != old_mtu:
            yield _link_set(name, ("mtu", str(mtu)), ("mtu", str(old_mtu)))
        if is_up != was_up:
            words = (("up",), ("down",)) if is_up else (("down",), ("up",))
            yield _link_set(name, *words)


def _link_set(name: str, do: tuple[str, ...], undo: tuple[str, ...]) -> Operation:
    change = ("ip", "link", "set", "dev", name)
    return Operation(kind=Kind.LINK, subject=name, do=(*change, *do), undo=(*change, *undo))


def _address_changes(before: Network, after: Network) -> Iterator[Operation]:
    for name, address in sorted(before.addresses - after.addresses):
        if name in after.links:
            yield Operation(
                kind=Kind.ADDRESS,
                subject=name,
                do=("ip", "address", "delete", address, "dev", name),
                undo=("ip", "address", "add", address, "dev", name),
            )
    for name, address in sorted(after.addresses - before.addresses):
        yield Operation(
            kind=Kind.ADDRESS,
            subject=name,
            do=("ip", "address", "add", address, "dev", name),
            undo=("ip", "address", "delete", address, "dev", name),
        )


def _table_changes(
    kind: Kind,
    old: frozenset[tuple[str, ...]],
    new: frozenset[tuple[str, ...]],
    before: Network,
    after: Network,
) -> Iterator[Operation]:
    """Routes or rules; those that went with their interface went with it."""
    gone = before.links.keys() - after.links.keys()
    gone |= {n for n, (is_up, _, _) in after.links.items() if not is_up and n in before.links}
    for words in sorted(old - new):
        if not gone.intersection(words):
            yield _entry(kind, words, "delete", "add")
    for words in sorted(new - old):
        yield _entry(kind, words, "add", "delete")


def _entry(kind: Kind, words: tuple[str, ...], do: str, undo: str) -> Operation:
    family, *rest = words
    return Operation(
        kind=kind,
        subject=" ".join(rest),
        do=("ip", family, kind.value, do, *rest),
        undo=("ip", family, kind.value, undo, *rest),
    )


_OPPOSITE: Final = {"add": "delete", "del": "add", "delete": "add"}


def only_there(words: tuple[str, ...]) -> Operation:
    """A command behind `main`; its opposite where `ip` has one."""
    undo: tuple[str, ...] = ()
    match words:
        case ("ip", *_):
            at = next((n for n, word in enumerate(words) if word in _OPPOSITE), None)
            family = {"address", "addr", "a", "route", "r", "rule", "ru"}
            if at is not None and family.intersection(words[:at]):
                undo = (*words[:at], _OPPOSITE[words[at]], *words[at + 1 :])
    return Operation(kind=Kind.MAIN, subject=words[0] if words else "", do=words, undo=undo)


def as_found(run: Run, operations: Iterable[Operation], *, pid: int) -> tuple[Operation, ...]:
    """Those that would change something on a host as it is, each with that host's own way back.

    The stage's values are not the host's: what a sysctl is set back to is what it is there now.
    """
    there = look(run, pid)
    found = (_as_found(each, there) for each in operations)
    return tuple(each for each in found if each is not None)


def _as_found(operation: Operation, there: Network) -> Operation | None:
    match operation.kind:
        case Kind.SYSCTL:
            name, _, value = operation.do[-1].partition("=")
            old = there.sysctls.get(name)
            return (
                None
                if old == value
                else msgspec.structs.replace(operation, undo=sysctl(name, old, value).undo)
            )
        case Kind.ADDRESS:
            verb, address, name = operation.do[2], operation.do[3], operation.do[5]
            return _if_needed(operation, verb, is_there=(name, address) in there.addresses)
        case Kind.ROUTE | Kind.RULE:
            words = (operation.do[1], *operation.do[4:])
            table = there.routes if operation.kind is Kind.ROUTE else there.rules
            return _if_needed(operation, operation.do[3], is_there=words in table)
        case Kind.LINK:
            return _link_as_found(operation, there)
        case Kind.MAIN:
            return None if _is_done(operation.do, there) else operation


def _is_done(words: tuple[str, ...], there: Network) -> bool:
    """Whether a command behind `main` is `ip address add` or `ip route add` of what is there."""
    match [word for word in words if word not in ("-4", "-6")]:
        case ["ip", "a" | "addr" | "address", "add", address, *_, "dev", name]:
            return (name, address) in there.addresses
        case ["ip", "r" | "ro" | "route", "add", *rest]:
            return any(list(route[1 : 1 + len(rest)]) == rest for route in there.routes)
    return False


def _if_needed(operation: Operation, verb: str, *, is_there: bool) -> Operation | None:
    return None if is_there == (verb == "add") else operation


def _link_as_found(operation: Operation, there: Network) -> Operation | None:
    verb, name = operation.do[2], operation.subject
    is_there = name in there.links
    if verb != "set":
        return _if_needed(operation, verb, is_there=is_there)
    if not is_there:
        return operation
    is_up, mtu, _ = there.links[name]
    change, value = operation.do[:5], operation.do[5:]
    now = ("mtu", str(mtu)) if value[0] == "mtu" else ("up",) if is_up else ("down",)
    return None if now == value else msgspec.structs.replace(operation, undo=(*change, *now))


Mention = Callable[[tuple[str, ...]], Place | None]
"""Finds the place of the last command that mentions one of these words."""


def with_places(operations: Iterable[Operation], mention: Mention) -> tuple[Operation, ...]:
    """The operations with the places of the commands that made them, as far as one is found."""
    return tuple(msgspec.structs.replace(each, place=mention(_clues(each))) for each in operations)


def _clues(operation: Operation) -> tuple[str, ...]:
    """What a command that did this has in it, the surest first."""
    if operation.kind is Kind.SYSCTL:
        slashed = operation.subject.replace(".", "/")
        return operation.subject, slashed, slashed.rpartition("/")[2]
    if operation.kind is Kind.ADDRESS:
        return operation.do[3], operation.do[3].partition("/")[0]
    if operation.kind is Kind.LINK:
        return (operation.subject,)
    words = operation.do[4:]
    named = [word for word in words if any(char.isdigit() for char in word) and len(word) > 1]
    return (*named, *words[:1])
