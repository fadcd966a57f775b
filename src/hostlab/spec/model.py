"""A description as values: what a file means once every default and every address is filled in.

A loader (`loading.py`) turns what people wrote into a `Lab`; everything behind it, from the plan to
the staging, reads these types and nothing else. All of them are immutable, compare by value and
survive msgspec's JSON unchanged, so that two of them can be compared to find what `apply` must do.
Addresses and prefixes are canonical strings (`10.0.0.1/24`, `fd00::1/64`), sizes are bytes,
times are seconds.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from hostlab.spec.firewall import Firewall
from hostlab.spec.impairments import NONE, Impairment
from hostlab.spec.job import STARTUP, Job
from hostlab.spec.routing import Routing

MAX_BRIDGE_PORTS = 1023
"""Ports of one Linux bridge (BR_MAX_PORTS less the reserved one, net/bridge/br_private.h)."""

TTL = 64
"""Of the packets around a tunnel's, unless said."""

VXLAN_PORT = 4789
"""IANA's; Linux' own default is older (8472)."""

MAX_NODES = 10_000
"""Of one lab: ten times what a segment holds, and what a description of one line can ask for."""


class Value(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of everything in a description."""


class SegmentKind(StrEnum):
    """What a segment is made of."""

    BRIDGE = "bridge"
    """A bridge in the lab's switch namespace."""
    VXLAN = "vxlan"
    GRE = "gre"
    IPIP = "ipip"
    VLAN = "vlan"
    MACVLAN = "macvlan"
    """A device of the machine, on which each node has an interface of its own."""


class Segment(Value, frozen=True, kw_only=True):
    """One layer-2 broadcast domain."""

    name: str
    subnets: tuple[str, ...]
    """Prefixes that addresses are assigned from, at most one a family."""
    mtu: int = 1500
    machine: tuple[str, ...] = ()
    """Addresses of the machine's own interface on this segment; empty: the machine sees nothing."""
    kind: SegmentKind = SegmentKind.BRIDGE
    taps: tuple[str, ...] = ()
    """Ports for programs of the machine (tuntap)."""
    lab: str = ""
    """`LAB/SEGMENT`: another lab's segment that this one is joined to."""

    @property
    def is_switched(self) -> bool:
        """Whether it is a bridge in the switch namespace; else it is all in the nodes."""
        return self.kind is SegmentKind.BRIDGE


class Tunnel(Value, frozen=True, kw_only=True):
    """A node's end of a segment that lies over another one."""

    kind: SegmentKind
    over: str
    """The node's interface that carries it."""
    number: int = 0
    """VNI, VLAN, or GRE's key; 0 is no key."""
    local: str = ""
    """The node's address there; a VLAN has none."""
    group: str = ""
    """Of a VXLAN: where everything goes whose place is unknown; empty: to each of `remotes`."""
    remotes: tuple[str, ...] = ()
    """The other ends' addresses."""
    places: tuple[tuple[str, str], ...] = ()
    """(MAC, address of the end behind which it is), where nothing is learned."""
    ttl: int = TTL
    port: int = VXLAN_PORT
    learning: bool = True
    is_told: bool = False
    """A routing daemon tells it of the other ends, and of who is behind them."""


class Interface(Value, frozen=True, kw_only=True):
    """A node's attachment to a segment."""

    name: str
    segment: str
    addresses: tuple[str, ...]
    """Those of the bridge, if it is a tunnel that is a port of one."""
    mac: str
    mtu: int = 1500
    tunnel: Tunnel | None = None
    """None: it is plugged into the segment's bridge, or onto the machine's device."""
    bridge: str = ""
    """A bridge in the node that it is a port of."""
    device: str = ""
    """The machine's device that it is on."""
    mode: str = ""
    """How it is there (`linux.tunnels.MACVLAN_MODES`)."""
    sending: Impairment = NONE
    """What happens to packets that the node sends, the segment's own impairment among it."""
    receiving: Impairment = NONE

    @property
    def holder(self) -> str:
        """The link that has its addresses."""
        return self.bridge if self.bridge and self.tunnel is not None else self.name

    @property
    def has_cable(self) -> bool:
        """Whether it is plugged into a switch, where it can be cut."""
        return self.tunnel is None and not self.device

    @property
    def is_impaired(self) -> bool:
        """Whether its cable is anything but perfect."""
        return bool(self.sending or self.receiving)


class Route(Value, frozen=True, kw_only=True):
    """A static route of a node."""

    to: str
    """A prefix; the default routes are `0.0.0.0/0` and `::/0`."""
    via: str | None = None
    interface: str | None = None
    metric: int | None = None


class File(Value, frozen=True, kw_only=True):
    """A file that is put into the node before its jobs start."""

    path: str
    content: bytes = b""
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"
    capabilities: str = ""
    """File capabilities as `setcap` writes them, for example `cap_net_raw+ep`."""


class User(Value, frozen=True, kw_only=True):
    """A user that the node has beside those of its root."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str = "/bin/sh"
    groups: tuple[str, ...] = ()


class Volume(Value, frozen=True, kw_only=True):
    """A directory that outlives a restart of the node, and that nodes can share."""

    source: str
    """A name, kept in the lab's run directory, or an absolute path of the machine."""
    target: str
    writable: bool = True


class Publish(Value, frozen=True, kw_only=True):
    """A port of the machine that leads to a port of the node."""

    port: int
    inner: int
    protocol: str = "tcp"
    address: str | None = None
    """The machine's address to listen on; None is every address, v4 and v6."""


class Limits(Value, frozen=True, kw_only=True):
    """What a node may use; None is no limit."""

    memory: int | None = None
    """Bytes."""
    cpu: float | None = None
    """CPUs' worth of time: 0.5 is half of one."""
    cpus: str | None = None
    """Which CPUs, as the kernel writes it: `0-1,3`."""
    pids: int | None = None
    disk: int | None = None
    """Bytes of the node's writable upper layer."""


class RootKind(StrEnum):
    """Where a node's file system comes from."""

    MACHINE = "machine"
    """The machine's own, read-only, under an overlay."""
    DIRECTORY = "directory"
    """A directory, read-only, under an overlay."""
    OCI = "oci"
    """An OCI bundle's root file system, used as the bundle says."""


class Root(Value, frozen=True, kw_only=True):
    """A node's file system."""

    kind: RootKind = RootKind.MACHINE
    path: str = "/"
    writable: bool = False
    """Write into `path` itself instead of an overlay (an OCI bundle without `readonly`)."""
    readonly: bool = False
    """Nothing can be written at all (an OCI bundle with `readonly`)."""


class Mount(Value, frozen=True, kw_only=True):
    """A mount that a bundle asks for, as in its `config.json`."""

    target: str
    type: str
    source: str
    options: tuple[str, ...] = ()


class Rlimit(Value, frozen=True, kw_only=True):
    """A resource limit of a node's jobs, by the kernel's name (`RLIMIT_NOFILE`)."""

    resource: str
    soft: int
    hard: int


class Link(Value, frozen=True, kw_only=True):
    """Docker's link: another node under a second name, with variables that tell its ports."""

    node: str
    alias: str


class BootEvent(Value, frozen=True, kw_only=True):
    """An event of a node's boot."""

    name: str
    environment: tuple[tuple[str, str], ...] = ()


class Boot(Value, frozen=True, kw_only=True):
    """The events that a node's init emits when it comes up (`jobs/boot.py` has the usual ones)."""

    startup_event: str = STARTUP
    """The first event, whatever follows."""
    events: tuple[BootEvent, ...] | None = None
    """What follows it; None is the usual boot, empty is nothing."""
    runlevel: str = "2"
    """In which the usual boot ends: `1` to `5` or `S`."""
    container: str | None = "hostlab"
    """What `container CONTAINER=…` says; None: `not-container` is emitted."""


class Units(Value, frozen=True, kw_only=True):
    """systemd's units, which a node's init runs as jobs."""

    start: tuple[str, ...] = ()
    """Started at the boot, with what they pull in."""
    enabled: bool = False
    """What the node's files have enabled is started, too; else only what was enabled since."""
    directories: tuple[str, ...] = ()
    """Where their files are; empty: in systemd's own places."""


class Place(Value, frozen=True, kw_only=True):
    """Where in the description something was said, to quote it in a verdict."""

    file: str
    line: int
    column: int


class Condition(Value, frozen=True, kw_only=True):
    """What must be so for a check to be asked; a check's kind and arguments."""

    kind: str
    arguments: dict[str, Any]


class Check(Value, frozen=True, kw_only=True):
    """An expectation about nodes."""

    nodes: tuple[str, ...]
    """Every one of them must satisfy it; none where it is of a role that no node has."""
    kind: str
    """As `spec.check_tables.KINDS` has them."""
    arguments: dict[str, Any]
    """What the kind needs, typed by `checks`; JSON values only."""
    within_s: float = 5.0
    """How long the expectation may take to become true."""
    always_s: float | None = None
    """How long it must go on being true, once it is."""
    never_s: float | None = None
    """It must not be true, for this long."""
    condition: Condition | None = None
    """It is asked only of nodes where this holds, looked at once before it."""
    place: Place | None = None
    name: str | None = None
    """What it is called in reports; None: by what it expects."""
    about: tuple[str, ...] = ()
    """The nodes and roles that it names, or whose it is."""


class Fault(Value, frozen=True, kw_only=True):
    """Something that is broken on purpose; `faults.py` says what each kind is."""

    kind: str
    on: str
    """One target: `NODE`, `NODE:INTERFACE`, `SEGMENT` or `NODE/JOB`."""
    options: tuple[tuple[str, str], ...] = ()
    """As they were written."""

    def __str__(self) -> str:
        return " ".join((self.kind, self.on, *(f"{name}={value}" for name, value in self.options)))


class TimedFault(Value, frozen=True, kw_only=True):
    """A fault of a timeline."""

    at_s: float
    """From the timeline's start."""
    fault: Fault
    for_s: float | None = None
    """How long it lasts; None: until the timeline ends."""


class Node(Value, frozen=True, kw_only=True):
    """One host."""

    name: str
    hostname: str
    roles: tuple[str, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    loopbacks: tuple[str, ...] = ()
    """Addresses of its loopback interface beside the usual ones, with their whole length."""
    routes: tuple[Route, ...] = ()
    routing: Routing | None = None
    """What its routing daemon does; its jobs and its files among `jobs` and `files` do it."""
    sysctls: tuple[tuple[str, str], ...] = ()
    """Including what `forwarding: true` means."""
    firewall: Firewall | None = None
    """None: whatever filter is there is not the description's."""
    files: tuple[File, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    """Including the variables of its links."""
    users: tuple[User, ...] = ()
    volumes: tuple[Volume, ...] = ()
    publish: tuple[Publish, ...] = ()
    links: tuple[Link, ...] = ()
    limits: Limits = Limits()
    capabilities: tuple[str, ...] = ()
    """The whole set, without `CAP_`, sorted."""
    no_new_privs: bool = False
    seccomp: str = "default"
    """`default`, `unconfined`, or a Docker/OCI profile as JSON text."""
    apparmor: str | None = None
    root: Root = Root()
    mounts: tuple[Mount, ...] = ()
    rlimits: tuple[Rlimit, ...] = ()
    masked_paths: tuple[str, ...] = ()
    """Beyond the usual ones."""
    readonly_paths: tuple[str, ...] = ()
    """Beyond the usual ones."""
    time_offset_s: float | None = None
    """A time namespace of its own with monotonic and boot time shifted by this."""
    namespaces: tuple[tuple[str, str], ...] = ()
    """(`net`, other node) …: share that node's namespace of this kind."""
    nesting: bool = False
    """A lab can be staged inside: /proc and /sys stay bare, which weakens the node's walls."""
    jobs: tuple[Job, ...] = ()
    job_files: tuple[str, ...] = ()
    """Directories of the node whose `.conf` and `.override` files are jobs beside these."""
    crontabs: tuple[str, ...] = ()
    """Tables of cron in the node, and directories of them."""
    units: Units | None = None
    """None: the node's init knows nothing of units."""
    boot: Boot = Boot()
    unsupported: tuple[str, ...] = ()
    """What its OCI bundle asks for and a node does not do, a sentence each."""

    @property
    def has_jobs(self) -> bool:
        """Whether its init may have anything to run, so that it is up from the first moment."""
        files = self.job_files or self.crontabs
        return bool(self.jobs or files or self.units is not None)


class Lab(Value, frozen=True, kw_only=True):
    """A set of hosts and the segments between them."""

    name: str
    segments: tuple[Segment, ...] = ()
    nodes: tuple[Node, ...] = ()
    checks: tuple[Check, ...] = ()
    secrets: tuple[str, ...] = ()
    """Texts that no output of checks tells."""
    faults: tuple[TimedFault, ...] = ()
    """A timeline, in the order of the description."""
    source: str = ""
    """The file it was read from, for messages."""

    def node(self, name: str) -> Node:
        """The node of this name; KeyError when there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)
