"""Every key of a description, once: what it may be, what it means, an example, its default.

The reader, `hostlab schema` and the page on the description are all made from these tables.
"""

from __future__ import annotations

from functools import partial

from hostlab.spec import capabilities, forms, job_forms, names, units
from hostlab.spec.check_tables import CHECK
from hostlab.spec.fault_tables import FAULT
from hostlab.spec.firewall_tables import FIREWALL
from hostlab.spec.impairment_tables import IMPAIRMENTS
from hostlab.spec.job_tables import BOOT, JOB
from hostlab.spec.model import MAX_NODES
from hostlab.spec.routing_tables import LOOPBACK, ROUTING
from hostlab.spec.scalars import (
    ADDRESS,
    CAPABILITY,
    CARRIER,
    CONTENT,
    CPU_TIME,
    ENDPOINT,
    ENVIRONMENT,
    FILE_PATH,
    FLAG,
    ID,
    IFNAME,
    LABEL,
    MAC,
    MODE,
    MTU,
    NAME,
    OFFSET,
    PATH,
    PIDS,
    PORT,
    PREFIXED,
    PROTOCOL,
    SIZE,
    SUBNET,
    TEXT,
    UNIT,
    UNITS_WORD,
    USERNAME,
    VARIABLE,
)
from hostlab.spec.segment_tables import SEGMENT
from hostlab.spec.shapes import (
    Fields,
    Forms,
    Key,
    ListOf,
    MapOf,
    Table,
    Text,
    names_only,
    under,
)

INTERFACE = Table(
    "interface",
    "A node's attachment to a segment.",
    (
        Key("name", IFNAME, "Its name; only in the list form.", "eth0", "eth0, eth1, …"),
        Key("segment", NAME, "The segment it is plugged into.", "lan"),
        Key(
            "addresses",
            ListOf(PREFIXED),
            "Its addresses; the prefix length may be left out when the segment's subnet has it. "
            "A family left out is assigned; an empty list is no address at all.",
            "[10.1.0.5, 'fd01::5/64']",
            "assigned",
            aliases=("address",),
        ),
        Key("mac", MAC,
            "Its Ethernet address.", "'02:00:00:00:00:05'", "02:…, from its name"),
        Key("mtu", MTU, "The largest packet, in bytes.", "1400", "the segment's"),
        Key("over", CARRIER, "Where the segment is a tunnel: the node's interface that carries it; "
            "`lo` for a VXLAN between the nodes' loopback addresses.",
            "eth1", "its first that is none"),
        Key("impair", IMPAIRMENTS, "What happens to packets on its cable, both ways; key by key it "
            "stands before the segment's.", "{delay: 20ms, out: {loss: 1%}}", "nothing"),
    ),
)  # fmt: skip

_INTERFACES = ListOf(Forms(scalar=(NAME, under("segment")), mapping=(INTERFACE, None)), alone=False)

ROUTE = Table(
    "route",
    "A static route. In one line: `10.2.0.0/16 via 10.1.0.1`.",
    (
        Key("to", Text("a prefix or `default`", lambda w: w if w == "default" else units.prefix(w),
                       {"type": "string"}),
            "Where it leads.", "10.2.0.0/16"),
        Key("via", Text("an address or a node", forms.hop, {"type": "string"}),
            "The next hop: an address on a segment of this node, or a node there.", "10.1.0.1"),
        Key("interface", IFNAME, "The interface to send on.", "eth0",
            "the one that reaches `via`"),
        Key("metric", ID, "Of several, the route with the lowest is taken.", "100",
            "the kernel's"),
    ),
    required=("to",),
)  # fmt: skip

FILE = Table(
    "file",
    "A file put into the node before its jobs start. A text alone is its content.",
    (
        Key("content", CONTENT, "The content itself.", '"hello\\n"'),
        Key("copy", FILE_PATH, "A file to copy, relative to the description; or a directory, whose "
            "files come below the path, those that can be executed with the mode 0755.",
            "motd.txt"),
        Key(
            "template",
            TEXT,
            "A file to fill in, relative to the description; with a line break in it, the "
            "template itself. `${node}`, `${lab}`, `${hostname}`, `${address}`, `${address6}`, "
            "`${NODE.address}`, `${NODE.address6}` and what `variables` says are replaced; "
            "`$$` is a dollar.",
            '"I am ${node} at ${address}\\n"',
        ),
        Key("mode", MODE,
            "Permission bits, in octal.", "'0640'", "0644"),
        Key("owner", TEXT, "`USER` or `USER:GROUP`.", "www-data:www-data", "root:root"),
        Key("capabilities", Text("file capabilities", capabilities.file_capabilities,
                                 {"type": "string"}),
            "File capabilities, as `setcap` takes them.", "cap_net_raw+ep"),
    ),
    exclusive=(("content", "copy", "template"),),
)  # fmt: skip

USER = Table(
    "user",
    "A user that the node has beside those of its root.",
    (
        Key("uid", ID, "Its number.", "1000", "1000, 1001, …"),
        Key("gid", ID, "Its group's number.", "1000", "its uid"),
        Key("home", PATH, "Its home directory.", "/srv/alice", "/home/NAME"),
        Key("shell", PATH, "What it logs in to.", "/bin/bash", "/bin/sh"),
        Key("groups", ListOf(USERNAME), "Other groups it is in.", "[adm]", aliases=("group",)),
    ),
)

VOLUME = Table(
    "volume",
    "A directory that outlives the node's restart. In one line: `data:/srv/data:ro`.",
    (
        Key("source", TEXT, "A name, shared by all nodes of the lab that use it, or a path of the "
            "machine (absolute, or relative to the description with `./`).", "data"),
        Key("target", PATH, "Where the node sees it.", "/srv/data"),
        Key("read_only", FLAG, "Whether the node can only read it.", "true", "false"),
    ),
    required=("source", "target"),
)  # fmt: skip

PUBLISH = Table(
    "publish",
    "A port of the machine that leads to one of the node. In one line: "
    "`[ADDRESS:]PORT:INNER[/udp]`.",
    (
        Key("port", PORT, "The machine's port.", "8080"),
        Key("inner", PORT, "The node's port.", "80", "the same"),
        Key("protocol", PROTOCOL, "tcp or udp.", "udp", "tcp"),
        Key("address", ADDRESS, "The machine's address to listen on.", "127.0.0.1", "all of them"),
    ),
    required=("port",),
)

LIMITS = Table(
    "limits",
    "What a node may use.",
    (
        Key("memory", SIZE, "Memory.", "64M", "no limit"),
        Key("cpu", CPU_TIME, "CPU time, in CPUs: `0.5` is half of one.", "0.5", "no limit"),
        Key("cpus", Text("a list of CPUs", units.cpus,
                         {"type": ["integer", "string"], "pattern": units.CPUS_PATTERN}),
            "Which CPUs it may run on.", "0-1", "all"),
        Key("pids", PIDS, "Processes and threads.", "100", "no limit"),
        Key("disk", SIZE, "What it may write into its root.", "100M", "no limit"),
    ),
)  # fmt: skip

CAPABILITIES = Table(
    "capabilities",
    "What its root user may do. A list alone is exactly that set. By default: "
    + " ".join(sorted(capabilities.DEFAULT)) + ".",
    (
        Key("add", ListOf(CAPABILITY), "Capabilities beside the usual ones; `ALL` is all.",
            "[SYS_PTRACE]"),
        Key("drop", ListOf(CAPABILITY), "Capabilities to leave out; `ALL` is all.", "[NET_RAW]"),
        Key("exactly", ListOf(CAPABILITY), "These and no other.", "[NET_BIND_SERVICE]"),
    ),
)  # fmt: skip

_CAPABILITIES = Forms(
    scalar=(ListOf(CAPABILITY), under("exactly")),
    sequence=(ListOf(CAPABILITY), under("exactly")),
    mapping=(CAPABILITIES, None),
)

ROOT = Table(
    "root",
    "Where the node's file system comes from. `machine` alone is the machine's own, read-only "
    "under an overlay; a path alone is a directory.",
    (
        Key("directory", FILE_PATH, "A directory of the machine, read-only under an overlay.",
            "/srv/root"),
        Key("oci", FILE_PATH, "An OCI bundle: a directory with `config.json`.", "bundle"),
    ),
    exclusive=(("directory", "oci"),),
)  # fmt: skip

TIME = Table(
    "time namespace",
    "A time namespace of the node's own.",
    (Key("offset", OFFSET, "How far its monotonic and boot time are shifted.", "1h", "0"),),
)

UNITS = Table(
    "units",
    "systemd's units, run by the node's init as jobs.",
    (
        Key("start", ListOf(UNIT), "Those that are started when the node comes up.",
            "[nginx.service, ssh.socket]", "none"),
        Key("enabled", FLAG, "Whatever is enabled in the node's files is started, too. Else what "
            "was enabled before the node first came up is not: its files are the machine's.",
            "true", "false"),
        Key("directories", ListOf(PATH), "Where the units are, the first that has one counts.",
            "[/etc/units]", "systemd's own places"),
    ),
)  # fmt: skip

_SHARED = "Share this namespace of another node."
NAMESPACES = Table(
    "namespaces",
    "Namespaces that are shared on purpose, as in a pod, or made on request.",
    (
        Key("net", LABEL, _SHARED + " The node then has no interfaces of its own.", "web1"),
        Key("ipc", LABEL, _SHARED, "web1"),
        Key("uts", LABEL, _SHARED, "web1"),
        Key("pid", LABEL, _SHARED, "web1"),
        Key("time", Forms(scalar=(FLAG, forms.time_flag), mapping=(TIME, None)),
            "A time namespace of its own: true, or its offset.", "{offset: 1h}", "none"),
    ),
)  # fmt: skip

_CHECKS = ListOf(CHECK)

NODE = Table(
    "node",
    "One host. A segment or a list of segments alone are its interfaces. A role has the same keys.",
    (
        Key("roles", ListOf(NAME), "Roles whose keys it takes over, in this order, its own last: "
            "mappings are merged by key, lists appended, anything else replaced.", "[web, logged]",
            aliases=("role",)),
        Key("count", Text("a number", partial(units.between, 1, MAX_NODES), {"type": "integer"}),
            "As many nodes of this kind: NAME1, NAME2, … In `on` of a check, NAME is all of them.",
            "3", "the one node", merge=False),
        Key("hostname", Text("a host name", names.hostname, {"type": "string"}),
            "What it calls itself.", "web.example.org", "its name"),
        Key(
            "interfaces",
            Forms(
                scalar=(NAME, forms.interface_alone),
                sequence=(_INTERFACES, forms.interface_list),
                mapping=(MapOf(IFNAME, Forms(scalar=(NAME, under("segment")),
                                              mapping=(INTERFACE, None), null=Fields)), None),
                words="a segment, a list of segments, or a mapping of interfaces",
            ),
            "Its attachments: a list of segments (eth0, eth1, …) or a mapping from names.",
            "[lan, dmz]", "one, if the lab has one segment", aliases=("interface",)),
        Key("gateway", ListOf(Text("an address or a node", forms.hop, {"type": "string"})),
            "The default route's next hop: a node, for IPv4 and IPv6 at once, or an address.",
            "router", aliases=("gateways",)),
        Key("routes", ListOf(Forms(scalar=(TEXT, forms.route_text), mapping=(ROUTE, None),
                                   words="a route, as `10.2.0.0/16 via 10.1.0.1`")),
            "Its static routes.", "['10.2.0.0/16 via 10.1.0.1']", aliases=("route",)),
        Key("forwarding", FLAG, "Whether it forwards packets, IPv4 and IPv6: whether it routes.",
            "true", "false"),
        Key("loopback", LOOPBACK, "Addresses of its own beside its interfaces': `true`, for one of "
            "10.255.0.0/16 and one of fd00:0:0:ffff::/64, or a list.", "true", "none"),
        Key("routing", ROUTING, "What its routing daemon does.", "{ospf: true}", "none"),
        Key("sysctls", MapOf(Text("a sysctl", forms.sysctl, {"type": "string"}), TEXT),
            "Kernel parameters of its namespaces.", "{net.ipv4.tcp_ecn: 1}", aliases=("sysctl",)),
        Key("files", MapOf(PATH, Forms(scalar=(CONTENT, forms.file_text), mapping=(FILE, None))),
            "Files it gets.", "{/etc/motd: hello}", aliases=("file",)),
        Key("variables", MapOf(VARIABLE, TEXT), "What its templates may name.", "{colour: red}"),
        Key("environment", ENVIRONMENT, "Variables of its jobs and commands.", "{LANG: C.UTF-8}"),
        Key(
            "users",
            Forms(
                scalar=(USERNAME, lambda s, said: names_only(s, said._replace(value=[said]))),
                sequence=(ListOf(USERNAME, alone=False), names_only),
                mapping=(MapOf(USERNAME, Forms(scalar=(ID, forms.user_number),
                                                mapping=(USER, None), null=Fields)), None),
                words="a list or a mapping of users",
            ),
            "Users it has beside those of its root.", "{alice: 1000}", aliases=("user",)),
        Key("volumes", ListOf(Forms(scalar=(TEXT, forms.volume_text), mapping=(VOLUME, None))),
            "Directories that outlive it and that nodes can share.", "['data:/srv/data']",
            aliases=("volume",)),
        Key("publish", ListOf(Forms(scalar=(TEXT, forms.publish_text), mapping=(PUBLISH, None))),
            "Ports of the machine that lead to it.", "['8080:80']"),
        Key("expose", ListOf(ENDPOINT), "Ports that the variables of a link tell beside the "
            "published ones.", "[8000, 53/udp]"),
        Key("links", ListOf(Text("`NODE` or `NODE:ALIAS`", forms.link, {"type": "string"})),
            "Other nodes under a second name, with Docker's variables.", "['db:store']",
            aliases=("link",)),
        Key("firewall", Forms(scalar=(Text("lines of nft", units.text, {"type": "string"}),
                                      under("raw")),
                              mapping=(FIREWALL, None)),
            "Its packet filter.", "{zones: {wan: eth0}, allow: [ssh from wan]}", "none"),
        Key("limits", LIMITS, "What it may use.", "{memory: 64M, pids: 100}"),
        Key("capabilities", _CAPABILITIES, "What its root user may do.", "{drop: [NET_RAW]}"),
        Key("no_new_privs", FLAG, "Whether nothing in it can gain privileges.", "true", "false"),
        Key("seccomp", TEXT, "`default`, `unconfined`, or a profile of Docker's kind, relative to "
            "the description.", "unconfined", "default"),
        Key("apparmor", TEXT, "The name of an AppArmor profile.", "docker-default", "none"),
        Key("nesting", FLAG, "Whether a lab can be staged inside it. It then has SYS_ADMIN, and "
            "/proc and /sys unmasked: its walls are weaker.", "true", "false"),
        Key("root", Forms(scalar=(FILE_PATH, under("directory")), mapping=(ROOT, None),
                          words="`machine`, a directory, or a mapping (root)"),
            "Its file system.", "{oci: bundle}", "machine"),
        Key("namespaces", NAMESPACES, "Namespaces that it shares.", "{net: web1}"),
        Key("jobs", MapOf(Text("a job's name", forms.job_name, {"type": "string"}),
                          Forms(scalar=(TEXT, under("exec")),
                                sequence=(ListOf(TEXT, alone=False), job_forms.exec_argv),
                                mapping=(JOB, None))),
            "What it runs.", "{web: python3 -m http.server 80}", aliases=("job",)),
        Key("job_files", ListOf(PATH), "Directories of the node whose `.conf` and `.override` "
            "files, Upstart's, are its jobs beside `jobs`.", "[/etc/init]", "none"),
        Key("units", Forms(scalar=(UNITS_WORD, job_forms.units_word),
                           sequence=(ListOf(UNIT, alone=False), under("start")),
                           mapping=(UNITS, None)),
            "systemd's units of its files are jobs, too; those named are started when it comes up, "
            "with what they pull in.", "[nginx.service]", "none"),
        Key("crontabs", ListOf(PATH), "Tables of cron in the node, and directories of them, whose "
            "lines are its jobs; nobody needs cron for that.", "[/etc/crontab, /etc/cron.d]",
            "none"),
        Key("boot", Forms(scalar=(FLAG, job_forms.enabled_flag),
                          mapping=(BOOT, job_forms.enabled_mapping)),
            "The events that its jobs can wait for when it comes up.", "{runlevel: 3}",
            "those of a host's boot"),
        Key("checks", _CHECKS, "What must hold on it.", "[{listens: 80}]", merge=False,
            aliases=("check",)),
    ),
)  # fmt: skip

_NODE = Forms(
    scalar=(
        NAME,
        lambda s, said: Fields(interfaces=said._replace(value=forms.interface_alone(s, said))),
    ),
    sequence=(
        _INTERFACES,
        lambda s, said: Fields(interfaces=said._replace(value=forms.interface_list(s, said))),
    ),
    mapping=(NODE, None),
    null=Fields,
    words="nothing, a segment, a list of segments, or a mapping (node)",
)

LAB = Table(
    "lab",
    "A description: a set of hosts and the segments between them.",
    (
        Key("name", NAME, "The lab's name.", "shop", "an adjective and a surname"),
        Key(
            "segments",
            Forms(
                scalar=(NAME, lambda s, said: names_only(s, said._replace(value=[said]))),
                sequence=(ListOf(NAME, alone=False), names_only),
                mapping=(MapOf(NAME, Forms(scalar=(SUBNET, lambda s, said: Fields(
                                                subnets=said._replace(value=[said]))),
                                            sequence=(ListOf(SUBNET), under("subnets")),
                                            mapping=(SEGMENT, None), null=Fields)), None),
                words="a list or a mapping of segments",
            ),
            "Its segments: a list of names, or a mapping from each to nothing, a subnet, a list of "
            "subnets, or a mapping.", "[lan, dmz]", aliases=("segment",)),
        Key("roles", MapOf(NAME, Forms(mapping=(NODE, None), null=Fields)),
            "Parts of a description that nodes share.", "{web: {jobs: {web: nginx}}}"),
        Key(
            "nodes",
            Forms(
                sequence=(
                    ListOf(Forms(scalar=(LABEL, None), mapping=(MapOf(LABEL, _NODE), None),
                                 null=lambda: None), alone=False),
                    forms.node_list,
                ),
                mapping=(MapOf(LABEL, _NODE), None),
                words="a list or a mapping of nodes",
            ),
            "Its nodes: a list of names (`~` is one without a name), or a mapping from each to "
            "nothing, a segment, a list of segments, or a mapping.", "[alice, bob]"),
        Key("checks", _CHECKS, "What must hold in it.",
            "[{on: [alice], reaches: bob}]", aliases=("check",)),
        Key("faults", ListOf(FAULT), "What `hostlab fault run` breaks, and when.",
            "[{at: 1s, do: link-down, on: lan, for: 3s}]", aliases=("fault",)),
    ),
)  # fmt: skip
