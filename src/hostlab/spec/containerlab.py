"""`import containerlab`: a `*.clab.yml` topology as a description.

A link is a segment with two ports, a node of kind `bridge` a segment with as many as it has links.
Containerlab configures nothing on a link of Linux nodes; people do that with `ip` commands under
`exec`. Those that add an address or a route, or set a link up, become what they mean, so that a
description made from such a file says it in its own words; the others stay commands of a job.
Read against containerlab's "Topology definition" and "Nodes" pages, 2026.
"""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from hostlab.spec.import_respawn import respawn
from hostlab.spec.importing import (
    Description,
    Fields,
    Import,
    Imported,
    Names,
    arguments,
    emit,
    interface_names,
    node_names,
    number,
    publish_texts,
    seconds,
    segment_names,
    size,
    volume_text,
    whole,
    without_nothing,
)
from hostlab.spec.source import Mark, quoted
from hostlab.spec.tree import Mapping as Tree_Mapping
from hostlab.spec.tree import Scalar

BRIDGES: Final = frozenset(("bridge", "ovs-bridge"))
"""Kinds that are a layer-2 network and no node."""

PLAIN: Final = frozenset(("linux", "host", "ext-container", ""))
"""Kinds whose software the machine itself may have."""

_OUTSIDE: Final[Mapping[str, str]] = {
    "host": "to the machine's own network is left out; give the segment `machine: ADDRESS`",
    "mgmt-net": "to the management network is left out",
    "macvlan": "to a device of the machine is left out",
    "dummy": "without another end is left out",
    "vxlan": "through a VXLAN tunnel is left out",
    "vxlan-stitch": "through a VXLAN tunnel is left out",
    "vlan": "to a VLAN of the machine is left out",
}
"""Links that leave the lab, by the name that a brief endpoint or a `type` has."""

_META: Final = "is left out: it means nothing to a lab"
_NOS: Final = "is left out: it configures a network system that is not there"

_TOP: Final[Mapping[str, str]] = {
    "prefix": _META,
    "mgmt": "is left out: there is no management network; `hostlab exec` reaches every node",
    "settings": _META,
    "debug": _META,
}

_NODE: Final[Mapping[str, str]] = {
    **dict.fromkeys(("type", "labels", "position", "runtime", "image-pull-policy"), _META),
    **dict.fromkeys(("extras", "publish", "cap-drop"), _META),
    **dict.fromkeys(("suppress-startup-config", "enforce-startup-config"), _NOS),
    **dict.fromkeys(("startup-config", "license", "certificate", "components", "config"), _NOS),
    "auto-remove": _META,
    "startup-delay": "is left out: jobs wait for events, as in `start_on: started db`",
    "stages": "is left out: nodes start together; a check with `within` waits for another",
    "wait-for": "is left out: nodes start together; a check with `within` waits for another",
    "env-files": "was not read; put its variables into `environment`",
    "dns": "is left out: names of the lab resolve in every node",
    "aliases": "is left out; name the node with `links`",
    "mgmt-ipv4": "is left out: there is no management network",
    "mgmt-ipv6": "is left out: there is no management network",
    "mgmt_ipv4": "is left out: there is no management network",
    "mgmt_ipv6": "is left out: there is no management network",
    "devices": "is left out: a node has the usual devices only",
    "shm-size": "is left out: `limits: {memory: …}` bounds /dev/shm too",
    "credentials": _NOS,
}  # fmt: skip

_HEALTH_INTERVAL_S: Final = 30.0
_HEALTH_RETRIES: Final = 3


class _End(NamedTuple):
    """One end of a link."""

    node: str
    interface: str
    fields: Mapping[str, str]
    """What an extended endpoint says beside: mac, ipv4, ipv6."""
    at: Mark


def import_containerlab(
    text: str, *, file: str, variables: Mapping[str, str] | None = None
) -> Imported:
    """Make a description of a containerlab topology's text.

    `file` names it in the notes; `variables` stand for the environment that `${NAME}` is taken
    from. Raises SpecErrors when the text is not YAML, or has no `topology` with `nodes`.
    """
    parent = Import(text, file=file, variables=variables or {})
    return _Topology(parent).run()


class _Topology:
    def __init__(self, parent: Import) -> None:
        self.parent = parent
        self.topology = parent.root.child("topology")
        self.levels = {key: self.topology.child(key) for key in ("defaults", "kinds", "groups")}
        self.nodes: dict[str, _Node] = {}
        self.bridges: dict[str, str] = {}
        """A bridge's node name, and the segment it is."""
        self.segment_names = segment_names(parent)
        self.segments: dict[str, Description] = {}

    def run(self) -> Imported:
        root = self.parent.root
        if "nodes" not in self.topology:
            at = self.topology.at
            self.parent.source.report("import", "no `nodes` in `topology`: not containerlab's", at)
            self.parent.source.raise_errors()
        name = root.word("name")
        self.read_nodes()
        for tree in self.topology.trees("links"):
            if isinstance(tree, Tree_Mapping):
                self.link(Fields(self.parent, tree))
            else:
                self.parent.note(tree.at, "the link was not understood: a mapping belongs here")
        self.topology.rest({})
        root.rest(_TOP)
        described = {node.name: node.describe() or None for node in self.nodes.values()}
        description = without_nothing({
            "name": name and segment_names(self.parent).add(name, root.key_at("name")),
            "segments": {name: segment or None for name, segment in self.segments.items()},
        })  # fmt: skip
        description["nodes"] = described
        return self.parent.done(emit(description), kind_of_file="a containerlab topology")

    def read_nodes(self) -> None:
        names = node_names(self.parent)
        for foreign, fields in self.topology.children("nodes"):
            layers = _layers(self.levels, fields)
            kind = layers.word("kind") or ""
            if kind in BRIDGES:
                self.bridges[foreign] = self.segment_names.add(foreign, fields.at)
                self.segments[self.bridges[foreign]] = {}
                continue
            if kind not in PLAIN:
                message = f"{quoted(kind)}: its network system is not there, the node is a Linux"
                layers.note("kind", message)
            name = names.add(foreign, fields.at)
            self.nodes[foreign] = _Node(self.parent, name, layers, names)

    def link(self, fields: Fields) -> None:
        """One link, in its brief or its extended form."""
        kind = fields.word("type") or "veth"
        mtu = fields.word("mtu")
        ends = list(self.ends(fields))
        fields.skip("labels", "vars")
        if kind in _OUTSIDE:
            self.parent.note(fields.at, f"a link {_OUTSIDE[kind]}")
            return
        if kind not in ("veth", "bridge"):
            self.parent.note(fields.at, f"a link of type {quoted(kind)} is left out")
            return
        fields.rest({})
        for end in ends:
            if end.node in _OUTSIDE and end.node not in (*self.nodes, *self.bridges):
                self.parent.note(end.at, f"a link {_OUTSIDE[end.node]}")
                return
            if end.node not in (*self.nodes, *self.bridges):
                self.parent.note(end.at, f"a link of {quoted(end.node)}, which is no node")
                return
        if len(ends) == 2:
            self.connect(ends, mtu, fields.at)
        elif "endpoints" in fields:
            self.parent.note(fields.at, "a link must have two endpoints")

    def connect(self, ends: list[_End], mtu: str | None, at: Mark) -> None:
        bridges = [end.node for end in ends if end.node in self.bridges]
        if len(bridges) == 2:
            self.parent.note(at, "a link between two bridges is left out: join them into one")
            return
        if bridges:
            segment = self.bridges[bridges[0]]
        else:
            # The names of the ends tell the link apart from a second one between the same nodes.
            first, second = (self.nodes[end.node].name for end in ends)
            segment = self.free_segment(f"{first}-{second}")
        description = self.segments.setdefault(segment, {})
        if whole(mtu) > 0:
            description["mtu"] = max(whole(mtu), description.get("mtu", 0))
        for end in ends:
            if end.node in self.nodes:
                self.nodes[end.node].attach(end, segment)

    def free_segment(self, wanted: str) -> str:
        name, count = wanted[:60], 1
        while name in self.segments:
            count += 1
            name = f"{wanted[:60]}-{count}"
        return name

    def ends(self, link: Fields) -> Iterator[_End]:
        trees = link.trees("endpoints")
        single = link.tree("endpoint")
        lists = [[word for word, _ in link.words(key)] for key in ("ipv4", "ipv6")]
        for place, tree in enumerate([*trees, *([single] if single else [])]):
            extra = {
                key: words[place]
                for key, words in zip(("ipv4", "ipv6"), lists, strict=True)
                if place < len(words)
            }
            if isinstance(tree, Scalar):
                word = self.parent.expand(tree.value, tree.at)
                node, _, interface = word.partition(":")
                yield _End(node, interface, extra, tree.at)
            elif isinstance(tree, Tree_Mapping):
                fields = Fields(self.parent, tree)
                said = {key: fields.word(key) for key in ("mac", "ipv4", "ipv6")}
                node, interface = fields.word("node") or "", fields.word("interface") or ""
                fields.skip("vars")
                fields.rest({})
                yield _End(node, interface, extra | without_nothing(said), tree.at)


class _Layers:
    """A node's own fields, its group's, its kind's, the defaults': the first that says wins."""

    def __init__(self, layers: list[Fields]) -> None:
        self.layers = layers
        self.at = layers[0].at
        self.parent = layers[0].parent

    def word(self, key: str) -> str | None:
        words = [fields.word(key) for fields in self.layers]
        return next((word for word in words if word is not None), None)

    def first(self, key: str) -> Fields:
        """The layer that says something about this key, or the node itself."""
        return next((fields for fields in self.layers if key in fields), self.layers[0])

    def words(self, key: str) -> list[tuple[str, Mark]]:
        """Of all layers, the most general first."""
        return [item for fields in reversed(self.layers) for item in fields.words(key)]

    def pairs(self, key: str) -> dict[str, str]:
        """Of all layers, the most particular winning."""
        return {
            name: value or ""
            for fields in reversed(self.layers)
            for name, value, _ in fields.pairs(key)
        }

    def note(self, key: str, message: str) -> None:
        self.first(key).note(key, message)

    def rest(self, reasons: Mapping[str, str]) -> None:
        for fields in self.layers:
            fields.rest(reasons)


def _layers(levels: Mapping[str, Fields], node: Fields) -> _Layers:
    defaults = levels["defaults"]
    found = [node]
    group = node.word("group") or defaults.word("group")
    if group and group in levels["groups"]:
        found.append(levels["groups"].child(group))
    kinds = [fields.word("kind") for fields in (*found, defaults)]
    kind = next((word for word in kinds if word), None)
    if kind and kind in levels["kinds"]:
        found.append(levels["kinds"].child(kind))
    return _Layers([*found, defaults])


class _Node:
    """One node on its way to be one of ours."""

    def __init__(self, parent: Import, name: str, layers: _Layers, nodes: Names) -> None:
        self.parent = parent
        self.nodes = nodes
        self.name = name
        self.layers = layers
        self.interfaces: dict[str, Description] = {}
        self.names: Names = interface_names(parent)
        self.routes: list[str] = []

    def attach(self, end: _End, segment: str) -> None:
        name = self.names.add(end.interface or f"eth{len(self.interfaces) + 1}", end.at)
        addresses = [end.fields[key] for key in ("ipv4", "ipv6") if key in end.fields]
        self.interfaces[name] = {"segment": segment} | without_nothing({
            "addresses": addresses, "mac": end.fields.get("mac"),
        })  # fmt: skip

    def describe(self) -> Description:
        layers = self.layers
        layers.word("group")
        image = layers.word("image")
        if image:
            message = f"{quoted(image)}: the machine's own file system stands in for it"
            layers.note("image", message)
        found: Description = {
            "environment": layers.pairs("env"),
            "sysctls": layers.pairs("sysctls"),
            "volumes": self.volumes(),
            "publish": [
                text
                for word, at in layers.words("ports")
                for text in publish_texts(word, at, self.parent)
            ],
            "limits": self.limits(),
            "capabilities": without_nothing(
                {"add": list(dict.fromkeys(word for word, _ in layers.words("cap-add")))}
            ),
        } | self.network_mode()
        jobs = self.jobs()
        found |= {"jobs": jobs, "checks": self.checks(), "routes": self.routes}
        layers.rest(_NODE)
        said = without_nothing(found)
        # An empty mapping is meant: left out, a node would be on the lab's only segment.
        return {"interfaces": self.interfaces} | said if "namespaces" not in said else said

    def network_mode(self) -> Description:
        mode = self.layers.word("network-mode")
        kind, _, other = (mode or "").partition(":")
        if kind == "container" and self.nodes.get(other):
            return {"namespaces": {"net": self.nodes.get(other)}}
        if mode not in (None, "", "bridge", "none"):
            self.layers.note("network-mode", f"{quoted(mode or '')} is left out")
        return {}

    def volumes(self) -> list[str]:
        found: dict[str, str] = {}
        for word, at in self.layers.words("binds"):
            if "__clab" in word:
                self.parent.note(at, f"the volume {quoted(word)} names containerlab's directory")
                continue
            anonymous = f"{self.name}-{word.strip('/').replace('/', '-')}"
            if ":" in word and not word.startswith(("/", ".", "~")):
                # A relative path here, where Docker would see the name of a volume.
                word = f"./{word}"
            text = volume_text(word, at, self.parent, anonymous)
            if text is not None:
                found[text.split(":")[1]] = text
        return list(found.values())

    def limits(self) -> Description:
        memory, cpu = self.layers.word("memory"), self.layers.word("cpu")
        found = size(memory) if memory else None
        if memory and found is None:
            self.layers.note("memory", f"was not understood: {quoted(memory)} is no size")
        try:
            share = float(cpu or 0)
        except ValueError:
            self.layers.note("cpu", f"was not understood: {quoted(cpu or '')} is no number")
            share = 0
        return without_nothing({
            "memory": found,
            "cpu": number(share) if 0 < share < 1e6 else None,
            "cpus": self.layers.word("cpu-set"),
        })  # fmt: skip

    def jobs(self) -> Description:
        layers = self.layers
        words = []
        for key in ("entrypoint", "cmd"):
            fields = layers.first(key)
            words += arguments(fields.tree(key), fields, key)
            layers.word(key)
        user, _, group = (layers.word("user") or "").partition(":")
        policy = layers.word("restart-policy")
        again = respawn(policy)
        if again is None:
            layers.note("restart-policy", f"was not understood: {quoted(policy or '')}")
        found: Description = {}
        if words:
            line = shlex.join(words)
            command: Any = line if line.split() == words else words
            how = without_nothing({"user": user, "group": group}) | (again or {})
            found["main"] = {"exec": command} | how if how else command
        commands = [
            command
            for word, at in layers.words("exec")
            if (command := self.command(word, at)) is not None
        ]
        if commands:
            found["exec"] = {"task": True} | (
                {"exec": commands[0]} if len(commands) == 1 else {"script": "\n".join(commands)}
            )
            if words:
                # Containerlab runs them when the container's own command runs.
                found["exec"]["start_on"] = "started main"
        if len(commands) > 1:
            layers.note("exec", "runs one command after another, until one fails")
        return found

    def command(self, word: str, at: Mark) -> str | None:
        """What is left of a command when its meaning has gone into interfaces and routes."""
        try:
            words = shlex.split(word)
        except ValueError:
            self.parent.note(at, f"`exec`: {quoted(word)} has an open quotation")
            return None
        return None if not words or self.understood(words) else shlex.join(words)

    def understood(self, words: list[str]) -> bool:
        """Whether this is an `ip` command that a description says by itself; if so, it does now."""
        match [word for word in words if word not in ("-4", "-6")]:
            case ["ip", "link" | "l", "set", name, "up"] | ["ip", "link", "set", "dev", name, "up"]:
                return name in self.interfaces
            case ["ip", "address" | "addr" | "a", "add" | "a", address, "dev", name]:
                if name not in self.interfaces or not _interface_address(address):
                    return False
                self.interfaces[name].setdefault("addresses", []).append(address)
                return True
            case ["ip", "route" | "r", "add" | "replace", to, "via", via]:
                return self.route(f"{to} via {via}", to, via)
            case ["ip", "route" | "r", "add" | "replace", to, "via", via, "dev", name]:
                return name in self.interfaces and self.route(f"{to} via {via}", to, via)
        return False

    def route(self, text: str, to: str, via: str) -> bool:
        if not _interface_address(via) or not (to == "default" or _prefix(to)):
            return False
        self.routes.append(text)
        return True

    def checks(self) -> list[Description]:
        health = self.layers.first("healthcheck").child("healthcheck")
        words = [word for word, _ in health.words("test")]
        spans = {key: health.word(key) for key in ("start-period", "interval", "timeout")}
        count = whole(health.word("retries")) or _HEALTH_RETRIES
        health.rest({})
        if not words or words[0] not in ("CMD", "CMD-SHELL") or len(words) < 2:
            return []
        command = words[1] if words[0] == "CMD-SHELL" else shlex.join(words[1:])
        start, interval, timeout = (seconds(word) if word else None for word in spans.values())
        each = (_HEALTH_INTERVAL_S if interval is None else interval) + (
            _HEALTH_INTERVAL_S if timeout is None else timeout
        )
        return [{"command": command, "within": f"{number((start or 0) + count * each)}s"}]


def _interface_address(word: str) -> bool:
    try:
        ipaddress.ip_interface(word)
    except ValueError:
        return False
    return True


def _prefix(word: str) -> bool:
    try:
        ipaddress.ip_network(word)
    except ValueError:
        return False
    return True
