"""What can be broken on purpose: the kinds of faults, their targets and options, as a table.

A fault is a word, a target and options: `one-way-loss r1:eth0 loss=30%`. The table says what each
kind takes, so that a description, a command line and a random schedule are read by one reader; the
hands that do it are in `hostlab.faults`, and which faults contradict each other in
`fault_conflicts`.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from functools import partial
from typing import Any, Final

import msgspec

from hostlab.errors import UsageError
from hostlab.spec import units
from hostlab.spec.model import Fault, Interface, Lab, Node, Segment, SegmentKind
from hostlab.spec.routing import RawUse
from hostlab.spec.source import Wrong, quoted

_NODES_PART: Final = re.compile(r"([^:/]*)(.*)", re.S)
"""Of a target: a node or what stands for nodes, and what of it."""
MOST_TARGETS: Final = 1000
"""Of one set."""
CABLE_ENDS: Final = 2
MOST_DELAY_S: Final = 30
"""The resolver's own limit (RES_MAXRETRANS, resolv.h)."""


class Form(StrEnum):
    """What a target may be."""

    NODE = "NODE"
    LINK = "NODE:INTERFACE"
    SEGMENT = "SEGMENT"
    JOB = "NODE/JOB"


class Option(msgspec.Struct, frozen=True):
    """One `NAME=VALUE` of a kind."""

    name: str
    meaning: str
    parse: Callable[[str], Any]
    default: str | None = None
    """None: it must be said."""


class Kind(msgspec.Struct, frozen=True):
    """One kind of fault."""

    name: str
    meaning: str
    forms: tuple[Form, ...]
    options: tuple[Option, ...] = ()
    silences: bool = False
    """Its node cannot be asked as long as it lasts: checks about it are not judged."""
    place: str = ""
    """What only one fault at a time may hold of its target; empty: the links themselves."""
    needs_init: bool = False
    """It is done by asking the node's init, or a daemon in it."""

    @property
    def is_of_cables(self) -> bool:
        """Whether it is done where the lab's switch has the ends of cables."""
        return self.place in ("", "loss", "partition", "cut", "port")

    @property
    def usage(self) -> str:
        """The kind as it is written."""
        targets = "|".join(self.forms)
        words = (o.name + "=…" if o.default is None else f"[{o.name}=…]" for o in self.options)
        return " ".join((self.name, targets, *words))


def percent(word: str) -> float:
    """A share: `30%` or `0.3`, above 0 and at most 1."""
    number = units.number(word.removesuffix("%"))
    share = number / 100 if word.endswith("%") else number
    if not 0 < share <= 1:
        raise Wrong(f"{quoted(word)} is no share", "write `30%`; more than 0%, at most 100%")
    return share


def _direction(word: str) -> str:
    if word not in ("in", "out"):
        raise Wrong(f"{quoted(word)} is neither in nor out", "seen from the node")
    return word


def _how(word: str) -> str:
    if word not in ("hard", "soft"):
        raise Wrong(f"{quoted(word)} is neither hard nor soft")
    return word


def _names(word: str) -> tuple[str, ...]:
    return tuple(filter(None, word.split("+")))


def _some_time(word: str) -> float:
    seconds = units.duration(word)
    if not seconds:
        raise Wrong(f"{quoted(word)} is no time at all")
    return seconds


def _whole_seconds(word: str) -> int:
    seconds = units.duration(word)
    if seconds not in range(1, MOST_DELAY_S + 1):
        raise Wrong(f"{quoted(word)} is not 1 to {MOST_DELAY_S} whole seconds")
    return int(seconds)


def _prefixes(word: str) -> tuple[str, ...]:
    if word == "default":
        return ("0.0.0.0/0", "::/0")
    return (str(units.prefix(word)),)


def _host(word: str) -> str:
    return units.text(word).lower()


def _optional(parse: Callable[[str], str]) -> Callable[[str], str]:
    """Empty is as good as left out."""
    return lambda word: parse(word) if word else ""


def _file_of_a_node(word: str) -> str:
    node, colon, path = word.rpartition(":")
    return f"{node}{colon}{units.absolute_path(path)}"


def _telling(word: str) -> str:
    if word not in ("reload", "restart"):
        raise Wrong(f"{quoted(word)} is neither reload nor restart")
    return word


_PATH: Final = "the file system at this path"

_KINDS: Final = (
    Kind("link-down", "The cable is pulled at the switch: the node loses its carrier, and on a "
         "segment of two both ends do.", (Form.LINK, Form.SEGMENT)),
    Kind("flap", "A link goes down and comes up again, several times.", (Form.LINK, Form.SEGMENT),
         (Option("times", "how often it goes down", partial(units.between, 1, 1000), "5"),
          Option("period", "from one time to the next", _some_time, "200ms"))),
    Kind("one-way-loss", "Packets are lost in one direction only, seen from the node.",
         (Form.LINK,),
         (Option("direction", "in or out", _direction, "in"),
          Option("loss", "which share", percent, "100%")), place="loss"),
    Kind("partition", "The nodes of a segment fall into two sets that do not hear each other.",
         (Form.SEGMENT,),
         (Option("apart", "the nodes of one set, as `a+b`; the others are the other", _names),),
         place="partition"),
    Kind("node-cut-off", "A node hears nobody and nobody hears it; its carrier stays.",
         (Form.NODE,), silences=True, place="cut"),
    Kind("node-killed", "The node's plug is pulled; cleared, it is staged again.",
         (Form.NODE,), silences=True, place="node"),
    Kind("node-frozen", "Everything in the node stands still.", (Form.NODE,), silences=True,
         place="freezer"),
    Kind("job-killed", "A job's process gets SIGKILL; cleared, the job is started if it is down.",
         (Form.JOB,), place="job", needs_init=True),
    Kind("job-down", "A job ends as `job stop` has it, and stays down; cleared, it is started.",
         (Form.JOB,), place="job", needs_init=True),
    Kind("job-stopped", "A job's processes get SIGSTOP.", (Form.JOB,), place="job",
         needs_init=True),
    Kind("cpu-slow", "The node gets a small share of one CPU.", (Form.NODE,),
         (Option("share", "of one CPU", percent, "10%"),), place="cpu"),
    Kind("memory-pressure", "The node's memory is bounded to what it has, and a little.",
         (Form.NODE,), (Option("room", "what it may still take", units.size, "4M"),),
         place="memory"),
    Kind("disk-full", "Nothing more can be written.", (Form.NODE,),
         (Option("path", _PATH, units.absolute_path, "/"),), place="files"),
    Kind("read-only", "Nothing can be written.", (Form.NODE,),
         (Option("path", _PATH, units.absolute_path, "/"),), place="files"),
    Kind("file-present", "A file is there that was not, as one by which a health check is told of "
         "maintenance.", (Form.NODE,), (Option("path", "which", units.absolute_path),),
         place="file"),
    Kind("descriptors-exhausted", "A job can open no further file or connection.", (Form.JOB,),
         place="descriptors", needs_init=True),
    Kind("clock-skew", "The node's clocks are wrong; only where the description says so.",
         (Form.NODE,), place="clock"),
    Kind("dns-slow", "Every look-up of a name takes this much longer, then answers as ever.",
         (Form.NODE,),
         (Option("delay", f"whole seconds, up to {MOST_DELAY_S}s", _whole_seconds, "2s"),),
         place="names"),
    Kind("dns-wrong", "A name has another address.", (Form.NODE,),
         (Option("name", "the name", _host),
          Option("address", "its address now", lambda word: str(units.address(word)),
                 "192.0.2.1")), place="names"),
    Kind("port-filtered", "What comes to a port of the node is dropped on the way.",
         (Form.NODE,),
         (Option("port", "which", units.port),
          Option("protocol", "tcp or udp", units.protocol, "tcp")), place="port"),
    Kind("certificate-expired", "The certificate that a server shows has expired; it is the same "
         "in all else.", (Form.NODE,),
         (Option("path", "its file, in PEM", units.absolute_path),
          Option("key", "its private key, `/FILE` or `NODE:/FILE`, if not in the same file",
                 _optional(_file_of_a_node), ""),
          Option("issuer_key", "the key that has signed it; without it the server's own signs",
                 _optional(_file_of_a_node), ""),
          Option("job", "whom to tell", _optional(units.text), ""),
          Option("how", "reload or restart; left out, what the job has", _optional(_telling), "")),
         place="file", needs_init=True),
    Kind("route-withdrawn", "The node has no route to a prefix any more.", (Form.NODE,),
         (Option("to", "the prefix, or `default`", _prefixes),), place="route"),
    Kind("bgp-session-reset", "A router ends sessions of BGP, which come back by themselves.",
         (Form.NODE,),
         (Option("peer", "the other end's name or address; `*` is every one", units.text, "*"),
          Option("how", "hard ends it, soft has all routes told anew", _how, "hard")),
         place="sessions", needs_init=True),
    Kind("announcement-withdrawn", "A router tells no BGP peer of a prefix any more.",
         (Form.NODE,),
         (Option("prefix", "which", lambda word: str(units.prefix(word))),), place="announcements",
         needs_init=True),
)  # fmt: skip

KINDS: Final = {kind.name: kind for kind in _KINDS}


def option(fault: Fault, name: str) -> Any:
    """An option's value, said or by default; UsageError when it must be said and is not."""
    found = next(each for each in KINDS[fault.kind].options if each.name == name)
    said = dict(fault.options).get(name, found.default)
    if said is None:
        hint = f"{name}=…: {found.meaning}"
        raise UsageError("fault-option", f"{fault.kind} needs {name}", hint=hint)
    try:
        return found.parse(said)
    except Wrong as wrong:
        raise UsageError("fault-option", f"{name}: {wrong.message}", hint=wrong.hint) from None


def parse(words: Sequence[str], lab: Lab) -> tuple[Fault, ...]:
    """`KIND TARGET NAME=VALUE …` as faults, one for each target of a set; UsageError."""
    if len(words) < 2:
        raise UsageError("fault", "a fault is KIND TARGET [NAME=VALUE …]", hint=_HINT)
    kind, on, *rest = words
    pairs = []
    for word in rest:
        name, equals, value = word.partition("=")
        if not equals:
            raise UsageError("fault-option", f"{quoted(word)} is not NAME=VALUE", hint=_HINT)
        pairs.append((name, value))
    return tuple(
        checked(Fault(kind=kind, on=each, options=tuple(pairs)), lab)
        for each in _set(kind, on, lab)
    )


def parse_line(text: str, lab: Lab) -> tuple[Fault, ...]:
    """`parse` of a fault in one text, whose words are a shell's; UsageError."""
    try:
        return parse(shlex.split(text), lab)
    except ValueError as error:
        raise UsageError("fault", f"{quoted(text)}: {error}", hint=_HINT) from None


_HINT: Final = "`hostlab fault kinds` lists them"


def _set(kind: str, text: str, lab: Lab) -> Iterator[str]:
    """The targets of a set with commas; a role, and `*`, stand for their nodes, also in
    `ROLE:INTERFACE` and `ROLE/JOB`.
    """
    others = {*_node_names(lab)}
    if kind in KINDS and Form.SEGMENT in KINDS[kind].forms:
        others |= {*_segment_names(lab)}
    count = 0
    for word in text.split(","):
        found = _NODES_PART.match(word)
        assert found is not None, "it matches whatever there is"
        head, tail = found.groups()
        nodes = [n.name for n in lab.nodes if head == "*" or head in n.roles]
        for target in [name + tail for name in nodes] if nodes and head not in others else [word]:
            count += 1
            if count > MOST_TARGETS:
                raise UsageError("fault-target", f"more than {MOST_TARGETS} targets")
            yield target


def checked(fault: Fault, lab: Lab) -> Fault:
    """The fault, if there is such a kind, such a target, and its options are whole; UsageError."""
    kind = KINDS.get(fault.kind)
    if kind is None:
        message = f"there is no fault {quoted(fault.kind)}"
        raise UsageError("fault-kind", message, hint=_suggest(fault.kind, KINDS) or _HINT)
    form(fault, lab)
    known = [each.name for each in kind.options]
    for name, _ in fault.options:
        if name not in known:
            hint = _suggest(name, known) or (f"it takes: {', '.join(known)}" if known else None)
            message = f"{kind.name} has no option {quoted(name)}"
            raise UsageError("fault-option", message, hint=hint)
    for name in known:
        option(fault, name)
    if kind.is_of_cables:
        _check_cables(fault, lab)
    if kind.name == "partition":
        _check_sides(fault, lab)
    if kind.place in ("sessions", "announcements"):
        _check_speaks_bgp(_node(lab, fault.on))
    if kind.name == "certificate-expired":
        _check_names_of_certificate(fault, lab)
    return fault


def _check_names_of_certificate(fault: Fault, lab: Lab) -> None:
    for name in ("key", "issuer_key"):
        if node := option(fault, name).rpartition(":")[0]:
            _node(lab, node)
    if job := option(fault, "job"):
        _job(lab, fault.on, job)
    elif option(fault, "how"):
        message = "how= is how a job is told, and no job is named"
        raise UsageError("fault-option", message, hint="job=NAME")


def _check_speaks_bgp(node: Node) -> None:
    routing = node.routing
    if routing is None or routing.bgp is None or routing.raw_use is RawUse.REPLACE:
        message = f"{node.name} has no BGP by `routing:`, so its sessions are not known"
        hint = "a job's daemon: `job-killed`, `job-stopped`; what it says: `port-filtered port=179`"
        raise UsageError("fault-target", message, hint=hint)


def _check_cables(fault: Fault, lab: Lab) -> None:
    """What is plugged into no switch of the lab cannot be cut there."""
    match form(fault, lab):
        case Form.SEGMENT:
            kind = _segment(lab, fault.on).kind
            if kind is not SegmentKind.BRIDGE:
                message = f"segment {fault.on} is a {kind}, which has no cables"
                hint = None if kind is SegmentKind.MACVLAN else "break a segment that carries it"
                raise UsageError("fault-target", message, hint=hint)
        case Form.LINK:
            interface = _interface(lab, *fault.on.split(":", 1))
            if interface.tunnel is not None:
                message = f"{fault.on} is the end of a {interface.tunnel.kind}, which has no cable"
                raise UsageError("fault-target", message, hint="break a link that carries it")
            if interface.device:
                _refuse_device(fault.on, interface)
        case Form.NODE:
            for interface in _node(lab, fault.on).interfaces:
                if interface.device:
                    _refuse_device(f"{fault.on}:{interface.name}", interface)


def _refuse_device(link: str, interface: Interface) -> None:
    message = f"{link} is on the machine's {interface.device}, which is no cable of the lab"
    raise UsageError("fault-target", message)


def _check_sides(fault: Fault, lab: Lab) -> None:
    attached = {node for node, _ in links_of(lab, fault.on)}
    apart = set(option(fault, "apart"))
    if wrong := sorted(apart - attached):
        hint = "nodes on it: " + ", ".join(sorted(attached))
        raise UsageError("fault-target", f"{wrong[0]} is not on segment {fault.on}", hint=hint)
    if not apart or apart == attached:
        message = f"a partition of {fault.on} needs nodes on both sides"
        raise UsageError("fault-target", message)


def form(fault: Fault, lab: Lab) -> Form:
    """What the target is; UsageError when there is no such thing, or the kind takes none such."""
    kind, on = KINDS[fault.kind], fault.on
    if ":" in on:
        found = Form.LINK
        _interface(lab, *on.split(":", 1))
    elif "/" in on:
        found = Form.JOB
        _job(lab, *on.split("/", 1))
    elif on in _node_names(lab) and (Form.NODE in kind.forms or on not in _segment_names(lab)):
        found = Form.NODE
    elif on in _segment_names(lab):
        found = Form.SEGMENT
    else:
        known = [*_node_names(lab), *_segment_names(lab)]
        raise _unknown(f"lab {lab.name} has no node or segment", on, known)
    if found not in kind.forms:
        wanted = " or ".join(kind.forms)
        message = f"{kind.name} is done to {wanted}, not to {quoted(on)}"
        raise UsageError("fault-target", message, hint=kind.usage)
    return found


def _node_names(lab: Lab) -> list[str]:
    return [node.name for node in lab.nodes]


def _segment_names(lab: Lab) -> list[str]:
    return [segment.name for segment in lab.segments]


def _unknown(what: str, name: str, known: Sequence[str]) -> UsageError:
    hint = _suggest(name, known) or (f"there are: {', '.join(known[:20])}" if known else None)
    return UsageError("fault-target", f"{what} {quoted(name)}", hint=hint)


def _suggest(word: str, known: Iterable[str]) -> str | None:
    close = difflib.get_close_matches(word, list(known), 1)
    return f"did you mean {close[0]}?" if close else None


def _node(lab: Lab, name: str) -> Node:
    try:
        return lab.node(name)
    except KeyError:
        raise _unknown(f"lab {lab.name} has no node", name, _node_names(lab)) from None


def _segment(lab: Lab, name: str) -> Segment:
    """One that is there."""
    return next(each for each in lab.segments if each.name == name)


def _interface(lab: Lab, node: str, name: str) -> Interface:
    interfaces = {each.name: each for each in _node(lab, node).interfaces}
    if name not in interfaces:
        raise _unknown(f"{node} has no interface", name, list(interfaces))
    return interfaces[name]


def _job(lab: Lab, node: str, name: str) -> None:
    """A described job is there; of files and units only the node's init knows."""
    found = _node(lab, node)
    if name not in [job.name for job in found.jobs] and not (
        found.job_files or found.units or found.crontabs
    ):
        raise _unknown(f"{node} has no job", name, [job.name for job in found.jobs])


def links_of(lab: Lab, segment: str) -> tuple[tuple[str, str], ...]:
    """(node, interface) of everything that is plugged into a segment."""
    return tuple(
        (node.name, interface.name)
        for node in lab.nodes
        for interface in node.interfaces
        if interface.segment == segment
    )


def links(fault: Fault, lab: Lab) -> tuple[tuple[str, str], ...]:
    """(node, interface) of every cable's end that a fault is about.

    A segment of two, of which the machine is not one, is a cable: who pulls it pulls both ends.
    """
    found = form(fault, lab)
    if found is Form.SEGMENT:
        return links_of(lab, fault.on)
    if found is Form.LINK:
        node, name = fault.on.split(":", 1)
        segment = _interface(lab, node, name).segment
        both = links_of(lab, segment)
        machine = _segment(lab, segment).machine
        is_cable = len(both) == CABLE_ENDS and not machine
        return both if is_cable and KINDS[fault.kind].place == "" else ((node, name),)
    if found is Form.NODE:
        found_there = lab.node(fault.on).interfaces
        return tuple((fault.on, interface.name) for interface in found_there if interface.has_cable)
    return ()


def node_of(fault: Fault) -> str:
    """The node of a target that is a node, or something of one."""
    return fault.on.partition(":")[0].partition("/")[0]


def cables(lab: Lab) -> dict[str, str]:
    """Each end of a cable, `NODE:INTERFACE`, with what makes it another one when it changes."""
    return {
        f"{node.name}:{each.name}": f"{each.segment} {each.mac}"
        for node in lab.nodes
        for each in node.interfaces
        if each.has_cable
    }


def is_there(fault: Fault, lab: Lab) -> bool:
    """Whether a fault's target is described."""
    try:
        form(fault, lab)
    except UsageError:
        return False
    return True
