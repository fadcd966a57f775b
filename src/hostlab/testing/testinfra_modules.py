"""What testinfra has no module for: nftables, namespaces, neighbours, timers, capabilities, jobs.

    assert host.nftables.rules(table="filter", chain="input")
    assert host.neighbours.get("10.0.0.2").state == "REACHABLE"
    assert host.jobs("web").is_running

They look by the host's own programs, as testinfra's do, but for `jobs` and `timers` of a node,
which its init tells. What a host has not is NotImplementedError, as in testinfra.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from testinfra.modules.base import InstanceModule, Module

from hostlab.linux.capabilities import decode_status, names_of

if TYPE_CHECKING:
    from hostlab.api import Node
    from hostlab.checks.access import JobStatus


class Nftables(InstanceModule):
    """The ruleset of nf_tables, iptables-nft's among it."""

    def ruleset(self) -> list[dict[str, Any]]:
        """Every object of `nft -j list ruleset`, as libnftables-json(5) has it."""
        nft = self.find_command("nft")
        found = json.loads(self.check_output("%s -j list ruleset", nft) or '{"nftables": []}')
        objects: list[dict[str, Any]] = found["nftables"]
        return [each for each in objects if "metainfo" not in each]

    def _of(self, kind: str, **wanted: str | None) -> list[dict[str, Any]]:
        found = (each[kind] for each in self.ruleset() if kind in each)
        return [
            each
            for each in found
            if all(value is None or each.get(key) == value for key, value in wanted.items())
        ]

    def tables(self, family: str | None = None) -> list[str]:
        """The names of the tables."""
        return [each["name"] for each in self._of("table", family=family)]

    def chains(self, table: str | None = None, *, family: str | None = None) -> list[str]:
        """The names of the chains."""
        return [each["name"] for each in self._of("chain", table=table, family=family)]

    def policy(self, table: str, chain: str, *, family: str | None = None) -> str | None:
        """A base chain's policy; None of another chain. AssertionError when it is not there."""
        found = self._of("chain", table=table, name=chain, family=family)
        assert found, f"there is no chain {chain} in a table {table}"
        policy: str | None = found[0].get("policy")
        return policy

    def sets(self, table: str | None = None, *, family: str | None = None) -> dict[str, list[Any]]:
        """The elements of the sets by their names."""
        found = self._of("set", table=table, family=family)
        return {each["name"]: each.get("elem", []) for each in found}

    def rules(
        self, table: str | None = None, chain: str | None = None, *, family: str | None = None
    ) -> list[list[dict[str, Any]]]:
        """The expressions of the rules, in their order."""
        return [each["expr"] for each in self._of("rule", table=table, chain=chain, family=family)]

    def __repr__(self) -> str:
        return "<nftables>"


class Namespaces(InstanceModule):
    """The namespaces that processes of the host are in."""

    def get(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Number (`ns`), `type`, `nprocs`, `pid` and `command` of each, or of those of a kind."""
        output = "NS,TYPE,NPROCS,PID,COMMAND"
        found = json.loads(self.check_output("lsns -J -o %s", output) or '{"namespaces": []}')
        every: list[dict[str, Any]] = found["namespaces"]
        return [each for each in every if kind is None or each["type"] == kind]

    def named(self) -> list[str]:
        """The names that `ip netns` gives to network namespaces."""
        output = self.check_output("%s -j netns list", self.find_command("ip"))
        return [each["name"] for each in json.loads(output or "[]")]

    def of_process(self, pid: int) -> dict[str, int]:
        """Kind -> number of the namespaces of a process, as `lsns` numbers them."""
        output = self.check_output("readlink /proc/%s/ns/*", str(pid))
        pairs = (line.rstrip("]").split(":[") for line in output.splitlines())
        return {kind: int(number) for kind, number in pairs}

    def __repr__(self) -> str:
        return "<namespaces>"


class Neighbour:
    """An entry of the table."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.address: str = row["dst"]
        self.interface: str = row.get("dev", "")
        self.mac: str | None = row.get("lladdr")
        states = row.get("state") or ["NONE"]
        self.state: str = states[0]
        """As `ip neigh` says: REACHABLE, STALE, FAILED …"""

    def __repr__(self) -> str:
        return f"<neighbour {self.address} {self.mac} {self.state}>"


class Neighbours(InstanceModule):
    """Who the host knows on its links."""

    def table(self, interface: str | None = None) -> list[Neighbour]:
        """Every entry, or those of an interface."""
        words = ("%s -j neigh show", self.find_command("ip"))
        if interface is not None:
            words = ("%s -j neigh show dev %s", words[1], interface)  # type: ignore[assignment]  # one word more
        return [Neighbour(row) for row in json.loads(self.check_output(*words) or "[]")]

    def get(self, address: str) -> Neighbour | None:
        """The entry of an address; None when there is none."""
        return next((each for each in self.table() if each.address == address), None)

    def __repr__(self) -> str:
        return "<neighbours>"


class Timers(InstanceModule):
    """What the clock starts: the timers and crontabs of a node's init, else those of systemd."""

    def get(self) -> list[dict[str, Any]]:
        """Each timer: `hostlab job timers --json`, or `systemctl list-timers --output=json`."""
        node = _node(self)
        if node is not None:
            return node.timers()
        if not self._host.exists("systemctl"):
            raise NotImplementedError("this host has no systemd whose timers could be listed")
        output = self.check_output("systemctl list-timers --all --output=json")
        found: list[dict[str, Any]] = json.loads(output or "[]")
        return found

    def __repr__(self) -> str:
        return "<timers>"


class Capabilities(InstanceModule):
    """What processes and files may do as capabilities(7) has it."""

    def of_process(self, pid: int, kind: str = "effective") -> tuple[str, ...]:
        """A process' set: effective, permitted, inheritable, bounding or ambient."""
        sets = decode_status(self.check_output("cat /proc/%s/status", str(pid)) + "\n")
        return names_of(getattr(sets, kind))

    def of_file(self, path: str) -> str:
        """What getcap(8) says: `cap_net_raw=ep`; empty when a file gives none."""
        output = self.check_output("%s %s", self.find_command("getcap"), path)
        return output.removeprefix(path).strip(" =") if output else ""

    def __repr__(self) -> str:
        return "<capabilities>"


class Job(Module):
    """A job of a node's init; a unit's by its name without the suffix, too."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__()

    def _status(self) -> JobStatus | None:
        node = _node(self)
        if node is None:
            raise NotImplementedError("jobs are told by a node's init; this host is no node")
        jobs = node.jobs()
        return jobs.get(self.name) or jobs.get(f"{self.name}.service")

    @property
    def exists(self) -> bool:
        """Whether the node has it."""
        return self._status() is not None

    @property
    def state(self) -> str | None:
        """`waiting`, `starting`, `running`, `stopping`, `stopped`, `failed`; None: no such job."""
        status = self._status()
        return None if status is None else str(status.state)

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        return self.state == "running"

    @property
    def pid(self) -> int | None:
        """Its main process, as the machine counts."""
        status = self._status()
        return None if status is None else status.pid

    @property
    def log(self) -> tuple[str, ...]:
        """The last lines that it wrote."""
        node = _node(self)
        return () if node is None else node.log_tail(self.name)

    def __repr__(self) -> str:
        return f"<job {self.name}>"


def _node(module: Module) -> Node | None:
    backend: Any = module._host.backend
    found: Node | None = backend.node if getattr(backend, "is_node", False) else None
    return found


MODULES: Final[Mapping[str, type[Module]]] = {
    "nftables": Nftables,
    "namespaces": Namespaces,
    "neighbours": Neighbours,
    "timers": Timers,
    "capabilities": Capabilities,
    "jobs": Job,
}
"""Attribute of a host -> what it is."""
