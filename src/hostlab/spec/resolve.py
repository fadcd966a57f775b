"""From what was read to what is meant: a `Lab` with every default and every address filled in."""

from __future__ import annotations

import posixpath
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from hostlab.errors import SpecErrors
from hostlab.spec import impairment_tables, names, overlays, parts
from hostlab.spec.addresses import Net, Wire, assign
from hostlab.spec.bundles import ReadBundle, overlay
from hostlab.spec.drafts import Draft, Owners, attach, drafts
from hostlab.spec.expect import checks
from hostlab.spec.fault_timeline import with_timeline
from hostlab.spec.files import Listed, ListFiles, Read, read_input, resolve_files
from hostlab.spec.firewall_meaning import firewall
from hostlab.spec.links import variables as link_variables
from hostlab.spec.loopbacks import assign_loopbacks, reserved
from hostlab.spec.model import (
    File,
    Interface,
    Lab,
    Link,
    Node,
    Root,
    RootKind,
    Segment,
    SegmentKind,
)
from hostlab.spec.node_jobs import JobReader, boot, units
from hostlab.spec.routes import routes
from hostlab.spec.shapes import Fields, Said
from hostlab.spec.source import Source, quoted
from hostlab.spec.units import Address

if TYPE_CHECKING:
    from hostlab.spec.routing_meaning import RoutingReader

_BUILT_IN = ("node", "lab", "hostname", "address", "address6")


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """What a description needs from outside of its text."""

    read: Read | None
    """Gives a file beside the description."""
    list_files: ListFiles | None
    """Gives the files of a directory there."""
    directory: str
    """The description's, which paths of the machine are relative to; empty leaves them so."""
    seed: str
    """What the name of an unnamed lab is drawn from."""
    oci: ReadBundle
    """Reads a bundle's `config.json`."""


def resolve(source: Source, top: Fields, inputs: Inputs) -> Lab:
    """The lab; what is wrong is reported to the source, and then the result means nothing."""
    name = top.value("name") or names.generated(inputs.seed, 0, (), joint="_")
    nets = {key: _net(name, key, said) for key, said in top.value("segments", Fields()).items()}
    every = drafts(source, top, top.value("name") or inputs.seed)
    attach(source, every, nets)
    overlays.prepare(source, every, nets)
    assign(source, nets, reserved(every))
    assign_loopbacks(source, every, nets.values())
    overlays.finish(source, every, nets)
    for net in nets.values():
        impairment_tables.checked(source, net.fields.value("impair", Fields()))
    resolver = _Resolver(source, every, nets, inputs, name)
    nodes = tuple(resolver.node(draft) for draft in every.values())
    for net in nets.values():
        other = net.fields.get("lab")
        if other is not None and other.value[0] == name:
            message = f"{quoted(name)} is this lab itself"
            source.report("clash", message, other.at, "put its nodes on one segment")
    lab = Lab(
        name=name,
        segments=tuple(_segment(net) for net in nets.values()),
        nodes=nodes,
        checks=checks(source, top, every),
        source=source.file,
        secrets=tuple(source.secrets),
    )
    return with_timeline(source, top, lab)


def _net(lab: str, name: str, said: Said) -> Net:
    kind, details = overlays.details_of(said.value)
    net = Net(name=name, at=said.key, fields=said.value, kind=kind, details=details)
    if kind is SegmentKind.MACVLAN or "lab" in net.fields:
        net.lab = f"{lab}/"
    return net


def _segment(net: Net) -> Segment:
    other = net.fields.value("lab")
    return Segment(
        name=net.name,
        subnets=tuple(str(subnet) for _, subnet in sorted(net.subnets.items())),
        mtu=net.mtu,
        machine=tuple(f"{a.address}/{a.length}" for a in net.machine),
        kind=net.kind,
        taps=tuple(said.value for said in net.fields.value("taps", [])),
        lab="" if other is None else "/".join(other),
    )


class _Resolver:
    """What resolving one node needs to know of the lab."""

    def __init__(
        self,
        source: Source,
        every: Mapping[str, Draft],
        nets: Mapping[str, Net],
        inputs: Inputs,
        lab: str,
    ) -> None:
        self.source = source
        self.every = every
        self.inputs = inputs
        self.owners = Owners(every)
        self.read = None if inputs.read is None else _once(inputs.read)
        self.list_files = None if inputs.list_files is None else _listed_once(inputs.list_files)
        self.lab = lab
        self.jobs = JobReader(source, self.job_namespaces)
        self.published: parts.Published = {}
        self.routing: RoutingReader | None = None
        if any("routing" in draft.fields for draft in every.values()):
            # Most labs have none, and need not load what reads it.
            from hostlab.spec.routing_meaning import RoutingReader

            self.routing = RoutingReader(source, every, nets, self.read)
        self.texts: dict[str, str] = {}
        for draft in every.values():
            for family, key in ((4, "address"), (6, "address6")):
                if (address := self.first_address(draft, family)) is not None:
                    self.texts[f"{draft.name}.{key}"] = str(address)

    def owner(self, draft: Draft) -> Draft:
        """The node whose network this node uses: its own unless it shares another's."""
        return self.every[draft.shares_net] if draft.shares_net else draft

    def first_address(
        self, draft: Draft, family: int, segments: frozenset[str] | None = None
    ) -> Address | None:
        """Its first address of a family, on one of some segments if said."""
        for wire in self.owner(draft).wires:
            if segments is None or wire.segment in segments:
                for address in wire.addresses:
                    if address.address.version == family:
                        return address.address
        return None

    def node(self, draft: Draft) -> Node:
        fields = draft.fields
        self.check_seen(draft)
        time: Fields | None = fields.value("namespaces", Fields()).value("time")
        boot_ = boot(self.source, fields)
        node = Node(
            name=draft.name,
            hostname=fields.value("hostname", draft.name),
            roles=draft.roles,
            interfaces=tuple(self.interface(wire) for wire in draft.wires),
            loopbacks=tuple(f"{a.address}/{a.length}" for a in draft.loopbacks),
            routes=routes(self.source, self.every, draft),
            sysctls=parts.sysctls(fields),
            firewall=firewall(self.source, self.every, draft),
            files=tuple(self.files(draft)),
            environment=self.environment(draft),
            users=tuple(parts.users(self.source, fields)),
            volumes=tuple(parts.volumes(self.source, fields, self.inputs.directory)),
            publish=tuple(parts.publish(self.source, self.published, draft.name, fields)),
            links=tuple(Link(node=n, alias=a) for n, a, _ in self.links(draft)),
            limits=parts.limits(fields),
            capabilities=parts.capability_set(fields.value("capabilities", Fields())),
            nesting=fields.flag("nesting"),
            no_new_privs=fields.flag("no_new_privs"),
            seccomp=parts.seccomp(self.source, fields, self.read),
            apparmor=fields.value("apparmor"),
            time_offset_s=None if time is None else time.value("offset", 0.0),
            namespaces=self.shared(draft, fields.value("namespaces", Fields())),
            jobs=tuple(self.jobs.jobs(fields.value("jobs", Fields()), boot_.startup_event)),
            job_files=tuple(said.value for said in fields.value("job_files", [])),
            crontabs=tuple(said.value for said in fields.value("crontabs", [])),
            units=units(fields),
            boot=boot_,
        )
        return _able_to_nest(self.root(fields, self.routed(draft, node)))

    def routed(self, draft: Draft, node: Node) -> Node:
        """With its routing daemon, the daemon's jobs and its configuration."""
        routing = None if self.routing is None else self.routing.routing(draft)
        if routing is None:
            return node
        from hostlab.spec.routing_jobs import with_daemons

        return with_daemons(self.source, draft, msgspec.structs.replace(node, routing=routing))

    def interface(self, wire: Wire) -> Interface:
        of_segment: Fields = wire.net.fields.value("impair", Fields())
        sending, receiving = impairment_tables.resolved(self.source, of_segment, wire.impair)
        if (sending or receiving) and wire.net.kind is not SegmentKind.BRIDGE:
            message = f"a {wire.net.kind} has no cable that could be impaired"
            at = next(iter((wire.impair or of_segment).values())).key
            self.source.report("clash", message, at, "impair what it goes over")
        is_macvlan = wire.net.kind is SegmentKind.MACVLAN
        return Interface(
            name=wire.name,
            segment=wire.segment,
            addresses=tuple(f"{a.address}/{a.length}" for a in wire.addresses),
            mac=wire.assigned_mac,
            mtu=wire.effective_mtu,
            tunnel=wire.tunnel,
            bridge=wire.bridge,
            device=wire.net.details.value("device", ""),
            mode=wire.net.details.value("mode", "bridge") if is_macvlan else "",
            sending=sending,
            receiving=receiving,
        )

    def check_seen(self, draft: Draft) -> None:
        seen: set[str] = set()
        for wire in draft.wires:
            for address in wire.addresses:
                if str(address.address) in seen:
                    message = f"{draft.name} has {address.address} on two segments"
                    self.source.report("clash", message, wire.at)
                seen.add(str(address.address))

    def files(self, draft: Draft) -> Iterator[File]:
        said_files: Fields = draft.fields.value("files", Fields())
        if not said_files:
            return
        own = {
            "node": draft.name,
            "lab": self.lab,
            "hostname": draft.fields.value("hostname", draft.name),
        }
        for key in ("address", "address6"):
            if f"{draft.name}.{key}" in self.texts:
                own[key] = self.texts[f"{draft.name}.{key}"]
        for name, said in draft.fields.value("variables", Fields()).items():
            if name in _BUILT_IN:
                message = f"the variable {quoted(name)} is there already"
                self.source.report("clash", message, said.key, "choose another name")
            else:
                own[name] = said.value
        variables = ChainMap(own, self.texts)
        found: dict[str, File] = {}
        for path, said in said_files.items():
            for file in resolve_files(
                self.source, self.read, self.list_files, path, said, variables
            ):
                # A file that is named itself stands before the one of a copied directory.
                if file.path == path or file.path not in said_files:
                    found[file.path] = file
        yield from found.values()

    def environment(self, draft: Draft) -> tuple[tuple[str, str], ...]:
        """The links' variables, then the node's own, which stand where both say one."""
        found: dict[str, str] = {}
        segments = frozenset(wire.segment for wire in self.owner(draft).wires)
        for name, alias, said in self.links(draft):
            other = self.every[name]
            address = None
            for where in (segments, None):
                for family in (4, 6):
                    address = address or self.first_address(other, family, where)
            if address is None:
                message = f"{quoted(name)} has no address to link to"
                self.source.report("value", message, said.at)
                continue
            environment = parts.pairs(other.fields.value("environment", Fields()))
            found.update(
                link_variables(
                    draft.name, alias, str(address), parts.ports(other.fields), environment
                )
            )
        found.update(parts.pairs(draft.fields.value("environment", Fields())))
        return tuple(found.items())

    def links(self, draft: Draft) -> Iterator[tuple[str, str, Said]]:
        aliases: dict[str, Said] = {}
        for said in draft.fields.value("links", []):
            name, alias = said.value
            if name not in self.every:
                hint = self.source.suggest_or_list(name, self.every)
                message = f"there is no node {quoted(name)}"
                self.source.report("unknown-name", message, said.at, hint)
            elif alias.lower() in aliases:
                first = self.source.place(aliases[alias.lower()].at)
                message = f"{quoted(alias)} is another link's name, at {first}"
                self.source.report("clash", message, said.at, f"write `{name}:OTHER`")
            else:
                aliases[alias.lower()] = said
                yield name, alias, said

    def shared(self, draft: Draft, fields: Fields) -> tuple[tuple[str, str], ...]:
        found = []
        for kind in sorted(fields.keys() - {"time"}):
            owner = self.owners.of(draft.name, kind)
            if owner is not None and owner != draft.name:
                found.append((kind, owner))
        return tuple(found)

    def job_namespaces(self, fields: Fields) -> tuple[tuple[str, str], ...]:
        found = []
        for kind, said in sorted(fields.items()):
            if said.value not in self.every:
                hint = self.source.suggest_or_list(said.value, self.every)
                message = f"there is no node {quoted(said.value)}"
                self.source.report("unknown-name", message, said.at, hint)
            else:
                found.append((kind, self.owners.of(said.value, kind) or said.value))
        return tuple(found)

    def root(self, fields: Fields, node: Node) -> Node:
        said: Fields = fields.value("root", Fields())
        path = said.value("directory", "machine")
        if "oci" not in said:
            if path == "machine":
                return node
            full = posixpath.normpath(posixpath.join(self.inputs.directory, path))
            return msgspec.structs.replace(node, root=Root(kind=RootKind.DIRECTORY, path=full))
        config = said["oci"]._replace(value=posixpath.join(said["oci"].value, "config.json"))
        content = read_input(self.source, self.read, config)
        if content is None:
            return node
        full = posixpath.normpath(posixpath.join(self.inputs.directory, config.value))
        try:
            found = self.inputs.oci(content, path=full)
        except SpecErrors as errors:
            for error in errors.errors:
                self.source.report_elsewhere(error)
            return node
        return overlay(node, found, frozenset(fields))


def _able_to_nest(node: Node) -> Node:
    """With what staging a lab takes beside the usual set: mounts and namespaces."""
    if not node.nesting:
        return node
    capabilities = tuple(sorted({*node.capabilities, "SYS_ADMIN"}))
    return msgspec.structs.replace(node, capabilities=capabilities)


def _once(read: Read) -> Read:
    """Reads each file once, however many nodes have it."""
    contents: dict[str, bytes] = {}

    def read_once(path: str) -> bytes:
        if path not in contents:
            contents[path] = read(path)
        return contents[path]

    return read_once


def _listed_once(list_files: ListFiles) -> ListFiles:
    """Lists each directory once, as `_once` reads."""
    found: dict[str, Sequence[Listed] | None] = {}

    def list_once(path: str) -> Sequence[Listed] | None:
        if path not in found:
            found[path] = list_files(path)
        return found[path]

    return list_once
