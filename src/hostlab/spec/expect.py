"""Checks: which nodes each is about, and its arguments as plain JSON values.

| kind | arguments |
|---|---|
| listens | port, protocol, address or null |
| http | url, status, body or null, verify, follow, location or null, days, resolve |
| ping, tcp, udp, dns, tls, smtp, ssh, ntp, unix, bgp, ospf | what was said, by `probe_tables` |
| reaches, not_reaches | host, port or null, protocol (`icmp` without a port) |
| command | run, status, stdout or null |
| file | path, is, mode, owner, contains, target, all but the first or null |
| sysctl | name, value; a check for each of them |
| job | name, state; a check for each of them |
| bgp | prefix, paths, best, next_hop, med; who is meant as name, addresses, med |
| bgp_session | peer, state; a check for each of them |
| those of `check_host_tables` | what was said |

`command` and `file` have beside these what else was said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from hostlab.spec import probe_tables
from hostlab.spec.check_host_tables import HOST_KINDS, plain
from hostlab.spec.check_tables import KINDS
from hostlab.spec.drafts import Draft
from hostlab.spec.model import Check, Condition, Place
from hostlab.spec.routing_meaning import addresses
from hostlab.spec.shapes import Fields, Said
from hostlab.spec.source import Source, quoted


class Names:
    """What the words of a check may stand for."""

    def __init__(self, every: Mapping[str, Draft], roles: Fields) -> None:
        self.groups: dict[str, list[str]] = {}
        for role in roles:
            self.groups[role] = []
        for draft in every.values():
            if draft.said != draft.name:
                self.groups.setdefault(draft.said, []).append(draft.name)
            for role in draft.roles:
                if draft.name not in self.groups[role][-1:]:  # a role may be called as its nodes
                    self.groups[role].append(draft.name)
        self.every = every
        self.hosts = {name.lower() for name in every}
        for draft in every.values():
            if "hostname" in draft.fields:
                self.hosts.add(draft.fields["hostname"].value.lower())
            self.hosts |= {said.value[1].lower() for said in draft.fields.value("links", [])}

    def on(self, source: Source, listed: list[Said]) -> tuple[str, ...] | None:
        """The nodes that a list of names means; None when one of them means nothing."""
        found: dict[str, None] = {}
        good = True
        for said in listed:
            if said.value in self.every:
                found[said.value] = None
            elif said.value in self.groups:
                found.update(dict.fromkeys(self.groups[said.value]))
            else:
                good = False
                hint = source.suggest_or_list(said.value, [*self.every, *self.groups])
                message = f"there is no node or role {quoted(said.value)}"
                source.report("unknown-name", message, said.at, hint)
        return tuple(found) if good else None

    def check_host(self, source: Source, host: str, said: Said) -> None:
        """A name without a dot must be a node's; one with a dot may be the world's."""
        if "." in host or ":" in host or host.lower() in self.hosts | {"localhost"}:
            return
        hint = source.suggest_or_list(host, self.every)
        source.report("unknown-name", f"there is no node {quoted(host)}", said.at, hint)


def checks(source: Source, top: Fields, every: Mapping[str, Draft]) -> tuple[Check, ...]:
    """All checks: the lab's, the roles', the nodes'."""
    roles: Fields = top.value("roles", Fields())
    known = Names(every, roles)
    found: list[Check] = []
    for said in top.value("checks", []):
        fields: Fields = said.value
        if "on" not in fields:
            if not fields.flawed:
                hint = "name nodes or roles: `on: [web1]`"
                source.report("missing", "a check of the lab needs `on`", said.at, hint)
            continue
        nodes = known.on(source, fields["on"].value)
        if nodes is not None:
            found += _check(source, known, said, nodes, ())
    for name, role in roles.items():
        for said in role.value.value("checks", []):
            found += _check(
                source, known, said, _implied(source, known, said, known.groups[name]), (name,)
            )
    groups: dict[int, list[Draft]] = {}
    for draft in every.values():
        groups.setdefault(id(draft.own), []).append(draft)
    for drafts in groups.values():
        nodes_here = [draft.name for draft in drafts]
        for said in drafts[0].own.value("checks", []):
            nodes = _implied(source, known, said, nodes_here)
            found += _check(source, known, said, nodes, tuple(nodes_here))
    return tuple(found)


def _implied(source: Source, known: Names, said: Said, nodes: list[str]) -> tuple[str, ...]:
    if "on" in said.value:
        return known.on(source, said.value["on"].value) or ()
    return tuple(nodes)


def _check(
    source: Source, known: Names, said: Said, nodes: tuple[str, ...], about: tuple[str, ...]
) -> Iterator[Check]:
    fields: Fields = said.value
    kinds = [kind for kind in KINDS if kind in fields]
    if not kinds:
        if not fields.flawed:
            hint = "one of " + ", ".join(KINDS)
            source.report("missing", "this check expects nothing", said.at, hint)
        return
    place = source.place(said.at)
    kind = kinds[0]
    condition = _condition(source, known, fields, nodes)
    for arguments in _arguments(source, known, kind, fields[kind], nodes):
        yield Check(
            nodes=nodes,
            kind=kind,
            arguments=arguments,
            within_s=fields.value("within", 5.0),
            always_s=fields.value("always"),
            never_s=fields.value("never"),
            condition=condition,
            place=Place(file=place.file, line=place.line, column=place.column),
            name=fields.value("name"),
            about=tuple(each.value for each in fields.value("on", [])) or about,
        )


def _condition(
    source: Source, known: Names, fields: Fields, nodes: tuple[str, ...]
) -> Condition | None:
    """What a check is asked under; None when always, or when it is reported as wrong."""
    if "if" not in fields:
        return None
    said: Fields = fields.value("if")
    kinds = [kind for kind in KINDS if kind in said]
    if not kinds:
        if not said.flawed:
            source.report("missing", "this condition says nothing", fields["if"].at)
        return None
    found = list(_arguments(source, known, kinds[0], said[kinds[0]], nodes))
    if len(found) != 1:
        source.report("clash", "a condition is one thing", fields["if"].at)
        return None
    return Condition(kind=kinds[0], arguments=found[0])


def _arguments(
    source: Source, known: Names, kind: str, said: Said, nodes: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    value = said.value
    match kind:
        case "listens":
            address = value.value("address")
            yield {
                "port": value.value("port"),
                "protocol": value.value("protocol", "tcp"),
                "address": None if address is None else str(address),
            }
        case "http":
            url = value.value("url", "")
            host = urlsplit(url).hostname or ""
            if host and not host.replace(".", "").isdigit():
                known.check_host(source, host, value["url"])
            yield {
                "url": url,
                "status": value.value("status", 200),
                "body": value.value("body"),
                "verify": value.flag("verify", default=True),
                "follow": value.flag("follow"),
                **_of_certificates_and_redirects(value),
            }
        case "reaches" | "not_reaches":
            if ":" not in value.host:
                known.check_host(source, value.host, said)
            yield {"host": value.host, "port": value.port, "protocol": value.protocol}
        case _ if kind in probe_tables.PROBES:
            for name, at in probe_tables.hosts_of(value):
                known.check_host(source, name, at)
            yield probe_tables.arguments(value)
        case "command":
            yield {"status": 0, "stdout": None} | _one_or_several(value)
        case "file":
            _check_file(source, value)
            keys = ("is", "mode", "owner", "contains", "target")
            yield dict.fromkeys(keys) | _one_or_several(value)
        case "sysctl":
            for name, text in value.items():
                yield {"name": name, "value": text.value}
        case "bgp":
            yield _bgp(source, known, value)
        case "bgp_session":
            for name, state in value.items():
                yield {"peer": _speaker(source, known, name, state), "state": state.value}
        case _ if kind in HOST_KINDS:
            _check_host_kind(source, kind, said)
            yield plain(value)
        case _:
            for name, state in value.items():
                _check_job(source, known, name, state, nodes)
                yield {"name": name, "state": state.value}


def _one_or_several(fields: Fields) -> dict[str, Any]:
    """What was said, a list of one as that one."""
    said: dict[str, Any] = plain(fields)
    return {
        key: value[0] if isinstance(value, list) and len(value) == 1 else value
        for key, value in said.items()
    }


def _check_host_kind(source: Source, kind: str, said: Said) -> None:
    """What must be said with each other, or cannot be."""
    fields: Fields = said.value
    if kind == "service" and not fields.flawed and not {"running", "enabled"} & fields.keys():
        hint = "`running: true`, `enabled: true`, or both"
        source.report("missing", "this service is expected to be nothing", said.at, hint)
    if kind == "package" and "version" in fields and not fields.flag("installed", default=True):
        source.report("clash", "what is not installed has no version", fields["version"].key)
    if kind == "interface" and fields.value("state") == "absent":
        for key in ("mtu", "mac", "addresses"):
            if key in fields:
                message = f"an interface that is absent has no `{key}`"
                source.report("clash", message, fields[key].key)


def _bgp(source: Source, known: Names, fields: Fields) -> dict[str, Any]:
    found: dict[str, Any] = {"prefix": fields.value("prefix"), "med": fields.value("med")}
    if "paths" in fields:
        found["paths"] = [
            _speaker(source, known, name, said)
            | {"med": said.value if isinstance(said.value, int) else None}
            for name, said in fields.value("paths").items()
        ]
    for key in ("best", "next_hop"):
        if key in fields:
            said = fields[key]
            found[key] = _speaker(source, known, said.value, said._replace(key=said.at))
    return found


def _speaker(source: Source, known: Names, name: str, said: Said) -> dict[str, Any]:
    """A node with all its addresses, or an address; a name that means nobody is reported."""
    draft = known.every.get(name)
    if draft is not None:
        return {"name": name, "addresses": [str(each.address) for each in addresses(draft)]}
    if ":" not in name and not name.replace(".", "").isdigit():
        hint = source.suggest_or_list(name, known.every)
        source.report("unknown-name", f"there is no node {quoted(name)}", said.key, hint)
    return {"name": name, "addresses": [name]}


def _of_certificates_and_redirects(fields: Fields) -> dict[str, Any]:
    """What else is said of a page; nothing where nothing is."""
    found = {key: fields.value(key) for key in ("location", "days") if key in fields}
    if "resolve" in fields:
        hosts: Fields = fields.value("resolve")
        found["resolve"] = {name: str(said.value) for name, said in hosts.items()}
    return found


def _check_job(source: Source, known: Names, name: str, said: Said, nodes: tuple[str, ...]) -> None:
    for node in nodes:
        fields = known.every[node].fields
        jobs = fields.value("jobs", Fields())
        # A bundle's process, job files and units are jobs that the description does not name.
        if name not in jobs and not ({"root", "job_files", "crontabs", "units"} & fields.keys()):
            hint = source.suggest_or_list(name, jobs)
            message = f"{quoted(node)} has no job {quoted(name)}"
            source.report("unknown-name", message, said.key, hint)
            return


def _check_file(source: Source, fields: Fields) -> None:
    """What is said of a file must be something that such a file has."""
    kind = fields.value("is")
    for key, only in (("contains", "file"), ("target", "link")):
        if key in fields and kind not in {None, only}:
            source.report("clash", f"`{key}` is something only of a {only}", fields[key].key)
    for key in ("mode", "owner"):
        if key in fields and kind == "absent":
            source.report("clash", f"a file that is absent has no `{key}`", fields[key].key)
