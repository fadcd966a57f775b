"""`import compose`: a Compose file as a description.

A service is a node, a network a segment, a published port a published port. What makes a container
different from a host has no counterpart: an image (the machine's own file system stands in for it)
and the command that only the image knows. Read against the Compose specification, 2026.
"""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from hostlab.spec import compose_tables as reasons
from hostlab.spec.compose_jobs import job_keys
from hostlab.spec.importing import (
    Description,
    Fields,
    Import,
    Imported,
    arguments,
    emit,
    interface_names,
    node_names,
    number,
    publish_texts,
    published,
    seconds,
    segment_names,
    size,
    volume,
    volume_text,
    whole,
    without_nothing,
)
from hostlab.spec.source import Mark, quoted
from hostlab.spec.tree import Mapping as Tree_Mapping
from hostlab.spec.tree import Scalar

_MTU: Final = "com.docker.network.driver.mtu"
_DEFAULT_PERIOD_US: Final = 100_000
_HEALTH_DEFAULTS: Final[Mapping[str, float]] = {
    "start_period": 0,
    "interval": 30,
    "timeout": 30,
}
_HEALTH_RETRIES: Final = 3


def import_compose(text: str, *, file: str, variables: Mapping[str, str] | None = None) -> Imported:
    """Make a description of a Compose file's text.

    `file` names it in the notes; `variables` stand for the environment that `${NAME}` is taken
    from. Raises SpecErrors when the text is not YAML, or not a mapping with `services`.
    """
    parent = Import(text, file=file, variables=variables or {})
    return _Compose(parent).run()


class _Compose:
    def __init__(self, parent: Import) -> None:
        self.parent = parent
        self.nodes = node_names(parent)
        self.segments = segment_names(parent)
        self.described: dict[str, Description] = {}
        self.aliases: list[tuple[str, str, str, Mark]] = []
        """(node, segment, its alias there, where)"""
        self.extra_hosts: list[tuple[str, str, str, Mark]] = []
        """(node, name, address, where)"""

    def run(self) -> Imported:
        top = self.parent.root
        if "services" not in top:
            self.parent.source.report("import", "no `services`: not a Compose file", top.at)
            self.parent.source.raise_errors()
        name = top.word("name")
        networks = dict(top.children("networks"))
        self.volumes(top)
        services = list(top.children("services"))
        for service, fields in services:
            self.nodes.add(service, fields.at)
        if any(self.takes_default(fields) for _, fields in services):
            networks.setdefault("default", top.child("networks").child("default"))
        segments = {}
        for network, fields in networks.items():
            segments[self.segments.add(network, fields.at)] = self.segment(fields)
        for service, fields in services:
            node = self.nodes.add(service, fields.at)
            self.described[node] = {}
            self.described[node] |= _Service(self, node, fields).describe()
        self.add_aliases()
        self.add_extra_hosts()
        top.rest(reasons.TOP)
        description = without_nothing({
            "name": name and segment_names(self.parent).add(name, top.key_at("name")),
            "segments": segments,
        })  # fmt: skip
        description["nodes"] = {name: node or None for name, node in self.described.items()}
        return self.parent.done(emit(description), kind_of_file="a Compose file")

    @staticmethod
    def takes_default(fields: Fields) -> bool:
        return "networks" not in fields and fields.word("network_mode") in (None, "", "bridge")

    def volumes(self, top: Fields) -> None:
        for _, fields in top.children("volumes"):
            if fields.word("driver") not in (None, "", "local", "default"):
                fields.note("driver", reasons.VOLUME["driver"])
            fields.rest(reasons.VOLUME)

    def segment(self, fields: Fields) -> Description | None:
        """One network; None when it says nothing, so that the lab assigns everything."""
        driver = fields.word("driver")
        if driver not in (None, "", "bridge", "default"):
            fields.note("driver", f"is {quoted(driver)}; a segment is a bridge")
        options = fields.child("driver_opts")
        mtu = options.word(_MTU)
        options.rest({})
        ipam = fields.child("ipam")
        if ipam.word("driver") not in (None, "", "default"):
            ipam.note("driver", reasons.IPAM["driver"])
        pools = [
            Fields(self.parent, tree)
            for tree in ipam.trees("config")
            if isinstance(tree, Tree_Mapping)
        ]
        subnets, gateways = self.pools(pools)
        ipam.rest(reasons.IPAM)
        # A segment without subnets has both families anyway.
        lacks_v6 = bool(subnets) and not any(":" in subnet for subnet in subnets)
        if fields.flag("enable_ipv6") and lacks_v6:
            fields.note("enable_ipv6", "needs an IPv6 prefix among the segment's `subnets`")
        # No segment of a lab leads out of it, so an internal one is like the others.
        fields.skip("internal")
        fields.rest(reasons.NETWORK)
        return (
            without_nothing({
                "subnets": subnets,
                "mtu": whole(mtu) or None,
                "machine": gateways,
            })
            or None
        )  # fmt: skip

    def pools(self, pools: list[Fields]) -> tuple[list[str], list[str]]:
        """Subnets, one of each family, and the machine's addresses: Docker's gateways."""
        subnets: dict[int, str] = {}
        gateways: list[str] = []
        for pool in pools:
            subnet, gateway = pool.word("subnet"), pool.word("gateway")
            pool.rest(reasons.POOL)
            try:
                prefix = ipaddress.ip_network(subnet or "", strict=False)
            except ValueError:
                pool.note("subnet", f"was not understood: {quoted(subnet or '')} is no prefix")
                continue
            if prefix.version in subnets:
                pool.note("subnet", f"{prefix} is left out: a segment has one prefix a family")
                continue
            subnets[prefix.version] = str(prefix)
            if gateway and _address(gateway):
                gateways.append(f"{gateway}/{prefix.prefixlen}")
        return list(subnets.values()), gateways

    def add_aliases(self) -> None:
        """A network's alias is a second name for all the others on it: a link of each."""
        for node, segment, alias, _ in self.aliases:
            for other, described in self.described.items():
                on_it = any(
                    interface["segment"] == segment
                    for interface in (described.get("interfaces") or {}).values()
                )
                if other != node and on_it:
                    self.add_link(described, f"{node}:{alias}")

    def add_extra_hosts(self) -> None:
        """A name for an address that a node has is a link to it; any other is noted."""
        owners = {
            address.partition("/")[0]: node
            for node, described in self.described.items()
            for interface in (described.get("interfaces") or {}).values()
            for address in interface.get("addresses", ())
        }
        for node, name, address, at in self.extra_hosts:
            if address in owners:
                self.add_link(self.described[node], f"{owners[address]}:{name}")
            else:
                message = f"`extra_hosts`: no node has the address {quoted(address)} of {name}"
                self.parent.note(at, message)

    @staticmethod
    def add_link(described: Description, link: str) -> None:
        links = described.setdefault("links", [])
        if link not in links:
            links.append(link)


def _address(word: str) -> str | None:
    try:
        return str(ipaddress.ip_address(word.strip("[]")))
    except ValueError:
        return None


class _Service:
    """One service on its way to be a node."""

    def __init__(self, compose: _Compose, node: str, fields: Fields) -> None:
        self.compose = compose
        self.parent = compose.parent
        self.node = node
        self.fields = fields

    def describe(self) -> Description:
        fields = self.fields
        self.note_image()
        found: Description = {"hostname": fields.word("hostname")}
        found |= self.network()
        found |= {
            "sysctls": {name: value or "" for name, value, _ in fields.pairs("sysctls")},
            "environment": self.environment(),
            "volumes": list(self.mounts()),
            "publish": list(self.ports()),
            "expose": [word for word, _ in fields.words("expose") if "-" not in word],
            "links": list(self.links()),
            "limits": self.limits(),
            "capabilities": without_nothing({
                "add": [word for word, _ in fields.words("cap_add")],
                "drop": [word for word, _ in fields.words("cap_drop")],
            }),
        }  # fmt: skip
        found |= self.security()
        found |= {"jobs": self.jobs(), "checks": list(self.checks())}
        self.extra_hosts()
        fields.rest(reasons.SERVICE)
        interfaces = found.pop("interfaces", None)
        said = without_nothing(found)
        # An empty mapping is meant: left out, a node would be on the lab's only segment.
        return said if interfaces is None else {"interfaces": interfaces} | said

    def note_image(self) -> None:
        image = self.fields.word("image")
        if image:
            self.fields.note(
                "image", f"{quoted(image)}: the machine's own file system stands in for it"
            )
        if "command" not in self.fields and "entrypoint" not in self.fields:
            message = f"the image's own command is not known; give `{self.node}` a job"
            self.parent.note(self.fields.at, message)

    def network(self) -> Description:
        mode = self.fields.word("network_mode")
        kind, _, other = (mode or "").partition(":")
        if kind == "service" and self.compose.nodes.get(other):
            return {"namespaces": {"net": self.compose.nodes.get(other)}}
        if mode == "none":
            return {"interfaces": {}}
        if mode and mode != "bridge":
            self.fields.note("network_mode", f"{quoted(mode)} is left out: a node has its own")
            return {"interfaces": {}}
        return {"interfaces": dict(self.interfaces())}

    def attachments(self) -> Sequence[tuple[str, Fields | None]]:
        """The service's networks in the order of their priority, then of the file."""
        if isinstance(self.fields.tree("networks"), Tree_Mapping):
            found = list(self.fields.children("networks"))
            return sorted(found, key=lambda item: -whole(item[1].word("priority")))
        listed = [word for word, _ in self.fields.words("networks")]
        return [(word, None) for word in listed or ["default"]]

    def interfaces(self) -> Iterator[tuple[str, Description]]:
        names = interface_names(self.parent)
        mac = self.fields.word("mac_address")
        for number_, (network, fields) in enumerate(self.attachments()):
            segment = self.compose.segments.get(network)
            if segment is None:
                self.fields.note("networks", f"names {quoted(network)}, which is not there")
                continue
            interface: Description = {"segment": segment}
            name = f"eth{number_}"
            if fields is not None:
                name = names.add(fields.word("interface_name") or name, fields.at)
                interface |= self.attachment(segment, fields)
            if mac and number_ == 0:
                interface.setdefault("mac", mac)
            yield name, interface

    def attachment(self, segment: str, fields: Fields) -> Description:
        words = [fields.word(key) for key in ("ipv4_address", "ipv6_address")]
        for alias, at in fields.words("aliases"):
            self.compose.aliases.append((self.node, segment, alias, at))
        found = {"addresses": [word for word in words if word], "mac": fields.word("mac_address")}
        fields.rest(reasons.ATTACHMENT)
        return without_nothing(found)

    def environment(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, value, at in self.fields.pairs("environment"):
            said = self.parent.variables.get(name) if value is None else value
            if said is None:
                self.parent.note(at, f"the variable {quoted(name)} is not set, left out")
            else:
                found[name] = said
        return found

    def mounts(self) -> Iterator[str]:
        for tree in self.fields.trees("volumes"):
            if isinstance(tree, Scalar):
                word = self.parent.expand(tree.value, tree.at)
                anonymous = f"{self.node}-{word.strip('/').replace('/', '-')}"
                text = volume_text(word, tree.at, self.parent, anonymous)
            elif isinstance(tree, Tree_Mapping):
                text = self.mount(Fields(self.parent, tree))
            else:
                self.parent.note(tree.at, "the volume was not understood")
                continue
            if text is not None:
                yield text

    def mount(self, fields: Fields) -> str | None:
        kind, source, target = (fields.word(key) for key in ("type", "source", "target"))
        read_only = fields.flag("read_only")
        fields.rest(reasons.MOUNT)
        if kind not in ("bind", "volume") or not target:
            self.parent.note(fields.at, f"a volume of type {quoted(kind or '')} is left out")
            return None
        name = source or f"{self.node}-{target.strip('/').replace('/', '-')}"
        if kind == "bind" and "/" not in name:
            name = f"./{name}"
        return volume(name, target, fields.at, self.parent, read_only=read_only)

    def ports(self) -> Iterator[str]:
        for tree in self.fields.trees("ports"):
            if isinstance(tree, Scalar):
                yield from publish_texts(
                    self.parent.expand(tree.value, tree.at), tree.at, self.parent
                )
            elif isinstance(tree, Tree_Mapping):
                yield from self.port(Fields(self.parent, tree))

    def port(self, fields: Fields) -> list[str]:
        inner, outer = fields.word("target") or "", fields.word("published")
        address = fields.word("host_ip") or ""
        protocol = fields.word("protocol") or "tcp"
        fields.skip("mode", "name", "app_protocol")
        fields.rest({})
        if not outer:
            return publish_texts(f"{inner}/{protocol}", fields.at, self.parent)
        address = f"[{address}]" if ":" in address else address
        return published(address, outer, inner, protocol, fields.at, self.parent)

    def links(self) -> Iterator[str]:
        for word, at in self.fields.words("links"):
            service, _, alias = word.partition(":")
            node = self.compose.nodes.get(service)
            if node is None:
                self.parent.note(at, f"`links`: there is no service {quoted(service)}")
            else:
                yield f"{node}:{alias}" if alias else node

    def limits(self) -> Description:
        fields = self.fields
        deploy = fields.child("deploy")
        resources = deploy.child("resources")
        limits = resources.child("limits")
        memory = fields.word("mem_limit") or limits.word("memory")
        cpu = fields.word("cpus") or limits.word("cpus")
        pids = fields.word("pids_limit") or limits.word("pids")
        quota, period = fields.word("cpu_quota"), fields.word("cpu_period")
        replicas = deploy.word("replicas") or fields.word("scale")
        if replicas not in (None, "1"):
            deploy.note("replicas", f"is {quoted(replicas)}; `count` of a node makes as many")
        storage = fields.child("storage_opt")
        disk = storage.word("size")
        limits.rest({})
        resources.rest({"reservations": "is left out: nothing is reserved for a node"})
        deploy.skip("restart_policy")
        deploy.rest(reasons.DEPLOY)
        storage.rest({})
        share = _real(cpu)
        if share is None and whole(quota) > 0:
            share = whole(quota) / (whole(period) or _DEFAULT_PERIOD_US)
        return without_nothing({
            "memory": self.size("mem_limit", memory),
            "cpu": number(share) if share else None,
            "cpus": fields.word("cpuset"),
            "pids": max(whole(pids), 0) or None,
            "disk": self.size("storage_opt", disk),
        })  # fmt: skip

    def size(self, key: str, word: str | None) -> str | None:
        found = size(word) if word else None
        if word and found is None:
            self.fields.note(key, f"was not understood: {quoted(word)} is no size")
        return found

    def security(self) -> Description:
        found: Description = {}
        for word, at in self.fields.words("security_opt"):
            key, _, value = word.replace("=", ":", 1).partition(":")
            match key:
                case "no-new-privileges":
                    found["no_new_privs"] = value != "false"
                case "seccomp":
                    found["seccomp"] = value
                case "apparmor" if value != "unconfined":
                    found["apparmor"] = value
                case "apparmor":
                    pass
                case _:
                    self.parent.note(at, f"`security_opt`: {quoted(word)} is left out")
        return found

    def jobs(self) -> Description:
        fields = self.fields
        words = [
            word
            for key in ("entrypoint", "command")
            for word in arguments(fields.tree(key), fields, key)
        ]
        job = job_keys(fields)
        if not words:
            if job:
                said = ", ".join(f"`{key}`" for key in job)
                self.parent.note(fields.at, f"the job of `{self.node}` must say {said}")
            return {}
        line = shlex.join(words)
        # A list is the exact arguments; a line without quotation means the same and reads better.
        command: Any = line if line.split() == words else words
        return {"main": {"exec": command} | job if job else command}

    def checks(self) -> Iterator[Description]:
        health = self.fields.child("healthcheck")
        tree = health.tree("test")
        shell = isinstance(tree, Scalar)
        words = [word for word, _ in health.words("test")]
        spans = {key: health.word(key) for key in _HEALTH_DEFAULTS}
        retries = whole(health.word("retries")) or _HEALTH_RETRIES
        disabled = health.flag("disable") or words[:1] == ["NONE"]
        health.rest(reasons.HEALTHCHECK)
        if not words or disabled:
            return
        if not shell and words[0] not in ("CMD", "CMD-SHELL"):
            health.note("test", f"was not understood: {quoted(words[0])}")
            return
        command = words[0] if shell else words[1] if words[0] == "CMD-SHELL" and words[1:] else ""
        command = command or shlex.join(words[1:])
        span = {
            key: seconds(word) if word else _HEALTH_DEFAULTS[key] for key, word in spans.items()
        }
        within = (span["start_period"] or 0) + retries * (
            (span["interval"] or 0) + (span["timeout"] or 0)
        )
        yield {"command": command, "within": f"{number(within)}s"}

    def extra_hosts(self) -> None:
        for name, address, at in self.fields.pairs("extra_hosts", "=:"):
            host = _address(address or "") or address or ""
            self.compose.extra_hosts.append((self.node, name, host, at))


def _real(word: str | None) -> float | None:
    try:
        found = float(word or "")
    except ValueError:
        return None
    return found if 0 < found < 1e6 else None
