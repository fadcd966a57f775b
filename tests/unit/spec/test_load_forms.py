"""What each form of a description means."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

import pytest

from hostlab.errors import SpecErrors
from hostlab.spec import Lab, Node, Publish, Route, User, Volume, capabilities, load
from hostlab.spec.model import Units
from tests.unit.spec.described import described

pytestmark = pytest.mark.unit


def lab_of(text: str, read: Callable[[str], bytes] | None = None) -> Lab:
    return load(textwrap.dedent(text), file="lab.yaml", read=read, directory="/labs")


def node_of(keys: str, others: str = "") -> Node:
    text = f"name: lab\nsegments: [lan]\nnodes: {{a: {keys}, {others}}}\n"
    return load(text, file="lab.yaml", directory="/labs").node("a")


def test_a_list_of_names_joins_the_only_segment() -> None:
    lab = lab_of("""
        name: hello
        segments: [lan]
        nodes: [alice, bob]
    """)
    assert [node.name for node in lab.nodes] == ["alice", "bob"]
    assert [(i.name, i.segment) for i in lab.node("bob").interfaces] == [("eth0", "lan")]
    assert lab.node("bob").hostname == "bob"


def test_with_two_segments_a_node_joins_none_by_itself() -> None:
    lab = lab_of("{name: x, segments: [lan, dmz], nodes: [alice]}")
    assert lab.node("alice").interfaces == ()


@pytest.mark.parametrize(
    ("said", "interfaces"),
    [
        ("dmz", [("eth0", "dmz")]),
        ("[dmz, lan]", [("eth0", "dmz"), ("eth1", "lan")]),
        ("{interfaces: dmz}", [("eth0", "dmz")]),
        ("{interfaces: [dmz, lan]}", [("eth0", "dmz"), ("eth1", "lan")]),
        ("{interfaces: [{name: eth1, segment: dmz}, lan, lan]}",
         [("eth1", "dmz"), ("eth0", "lan"), ("eth2", "lan")]),
        ("{interfaces: {up0: dmz, down0: {segment: lan}}}", [("up0", "dmz"), ("down0", "lan")]),
        ("{interfaces: []}", []),
    ],
)  # fmt: skip
def test_interfaces(said: str, interfaces: list[tuple[str, str]]) -> None:
    lab = lab_of(f"{{name: x, segments: [lan, dmz], nodes: {{a: {said}}}}}")
    assert [(i.name, i.segment) for i in lab.node("a").interfaces] == interfaces


def test_segments_in_every_form() -> None:
    lab = lab_of("""
        name: x
        segments:
          a:
          b: 10.9.0.0/24
          c: [10.8.0.0/16, "fd08::/64"]
          d: {subnet: 10.7.0.0/24, mtu: 9000, machine: 10.7.0.1}
    """)
    assert [(s.subnets, s.mtu, s.machine) for s in lab.segments] == [
        (("10.0.0.0/24", "fd00::/64"), 1500, ()),
        (("10.9.0.0/24",), 1500, ()),
        (("10.8.0.0/16", "fd08::/64"), 1500, ()),
        (("10.7.0.0/24",), 9000, ("10.7.0.1/24",)),
    ]


def test_roles_merge_in_order_and_the_node_last() -> None:
    lab = lab_of("""
        name: x
        segments: [lan]
        roles:
          one:
            hostname: one
            environment: {A: one, B: one}
            publish: [1000]
            limits: {memory: 1M, pids: 10}
            jobs: {web: {exec: one, user: nobody}}
            files: {/f: {template: "one\\n", mode: "0600"}}
          two:
            hostname: two
            environment: {B: two, C: two}
            publish: [2000]
        nodes:
          a:
            roles: [one, two, one]
            environment: {C: a}
            publish: 3000
            limits: {memory: 2M}
            jobs: {web: {exec: a}}
            files: {/f: {content: a}}
    """)
    node = lab.node("a")
    assert node.hostname == "two"
    assert node.environment == (("A", "one"), ("B", "two"), ("C", "a"))
    assert [p.port for p in node.publish] == [1000, 2000, 3000]
    assert (node.limits.memory, node.limits.pids) == (2 * 2**20, 10)
    assert node.jobs == (described("web", exec="a", user="nobody"),)
    assert (node.files[0].content, node.files[0].mode) == (b"a", 0o600)
    assert node.roles == ("one", "two")


def test_interfaces_of_a_role_and_a_node_append() -> None:
    lab = lab_of("""
        segments: [lan, dmz]
        roles: {r: {interfaces: [lan]}}
        nodes: {a: {role: r, interfaces: [dmz]}}
    """)
    assert [i.segment for i in lab.node("a").interfaces] == ["lan", "dmz"]


def test_what_looks_like_yaml_1_1_is_the_text_that_was_written() -> None:
    node = node_of("{environment: {A: no, B: 1:30, C: 0x10, D: 1e3, E: 007}}")
    assert dict(node.environment) == {"A": "no", "B": "1:30", "C": "0x10", "D": "1e3", "E": "007"}


def test_a_key_with_nothing_behind_it_is_left_out() -> None:
    assert node_of("{hostname: , limits: ~, jobs: }") == node_of("{}")


def test_anchors_and_merge_keys() -> None:
    lab = lab_of("""
        nodes:
          a: &base {environment: {A: 1}, hostname: a.example}
          b: {<<: *base, hostname: b.example}
    """)
    assert lab.node("b").environment == (("A", "1"),)
    assert lab.node("b").hostname == "b.example"


def test_publish_in_every_form() -> None:
    node = node_of(
        "{publish: [9000, '9001:2000', '9002:53/udp', '127.0.0.1:9003:80', '[::1]:9004:80', "
        "{port: 9005, inner: 80, protocol: udp, address: 10.0.0.1}]}"
    )
    assert node.publish == (
        Publish(port=9000, inner=9000),
        Publish(port=9001, inner=2000),
        Publish(port=9002, inner=53, protocol="udp"),
        Publish(port=9003, inner=80, address="127.0.0.1"),
        Publish(port=9004, inner=80, address="::1"),
        Publish(port=9005, inner=80, protocol="udp", address="10.0.0.1"),
    )


def test_the_same_port_may_be_published_on_different_addresses() -> None:
    node = node_of("{publish: ['127.0.0.1:80:80', '127.0.0.2:80:81', '[::1]:80:82', '80/udp']}")
    assert len(node.publish) == 4


def test_volumes_in_every_form() -> None:
    node = node_of(
        "{volumes: ['data:/a', 'data:/b:ro', '/srv:/c', './x:/d', "
        "{source: data, target: /e, read_only: true}]}"
    )
    assert node.volumes == (
        Volume(source="data", target="/a"),
        Volume(source="data", target="/b", writable=False),
        Volume(source="/srv", target="/c"),
        Volume(source="/labs/x", target="/d"),
        Volume(source="data", target="/e", writable=False),
    )


def test_users_are_numbered_around_those_that_have_a_number() -> None:
    node = node_of("{users: {a: , b: 1000, c: {shell: /bin/bash, groups: adm}}}")
    assert node.users == (
        User(name="a", uid=1001, gid=1001, home="/home/a"),
        User(name="b", uid=1000, gid=1000, home="/home/b"),
        User(name="c", uid=1002, gid=1002, home="/home/c", shell="/bin/bash", groups=("adm",)),
    )
    assert node_of("{users: [a]}").users == node_of("{user: a}").users


def test_capabilities() -> None:
    default = set(capabilities.DEFAULT)
    assert set(node_of("{}").capabilities) == default
    assert set(node_of("{capabilities: [cap_net_raw, KILL]}").capabilities) == {"NET_RAW", "KILL"}
    assert node_of("{capabilities: []}").capabilities == ()
    added = node_of("{capabilities: {add: SYS_PTRACE, drop: [NET_RAW]}}").capabilities
    assert set(added) == (default | {"SYS_PTRACE"}) - {"NET_RAW"}
    only = node_of("{capabilities: {drop: ALL, add: NET_BIND_SERVICE}}").capabilities
    assert only == ("NET_BIND_SERVICE",)
    assert set(node_of("{capabilities: ALL}").capabilities) == capabilities.ALL


def test_forwarding_is_two_sysctls_and_the_users_word_is_last() -> None:
    node = node_of("{forwarding: true, sysctls: {net/ipv4/ip_forward: 0}}")
    assert node.sysctls == (("net.ipv4.ip_forward", "0"), ("net.ipv6.conf.all.forwarding", "1"))


def test_limits() -> None:
    limits = node_of("{limits: {memory: 1GiB, cpu: .5, cpus: '0-1,3', pids: 9, disk: 5MB}}").limits
    assert (limits.memory, limits.cpu, limits.cpus) == (2**30, 0.5, "0-1,3")
    assert (limits.pids, limits.disk) == (9, 5_000_000)


def test_namespaces_are_shared_through_to_their_owner() -> None:
    lab = lab_of("""
        segments: [lan]
        nodes:
          a: {namespaces: {net: b, time: {offset: 1h}}}
          b: {namespaces: {net: c, ipc: c}}
          c: {namespaces: {time: true}}
    """)
    assert lab.node("a").namespaces == (("net", "c"),)
    assert lab.node("b").namespaces == (("ipc", "c"), ("net", "c"))
    assert lab.node("a").interfaces == ()
    assert lab.node("a").time_offset_s == 3600
    assert lab.node("c").time_offset_s == 0
    assert lab.node("b").time_offset_s is None


def test_jobs() -> None:
    node = node_of(
        "{jobs: {a: sleep 1, b: [sleep, 2], c: {exec: x, user: u, group: g, directory: /srv, "
        "environment: {K: v}, capabilities: [NET_BIND_SERVICE], no_new_privs: true, "
        "namespaces: {net: o}}}}",
        "o: ",
    )
    assert node.jobs == (
        described("a", exec="sleep 1"),
        described("b", argv=("sleep", "2")),
        described(
            "c",
            exec="x",
            user="u",
            group="g",
            directory="/srv",
            environment=(("K", "v"),),
            capabilities=("NET_BIND_SERVICE",),
            no_new_privs=True,
            namespaces=(("net", "o"),),
        ),
    )


def test_routes_and_gateways() -> None:
    lab = lab_of("""
        segments: {lan: 10.1.0.0/24, dmz: [10.2.0.0/24, "fd02::/64"]}
        nodes:
          r: [lan, dmz]
          a: {interfaces: lan, gateway: r}
          b: {interfaces: dmz, gateway: r}
          c:
            interfaces: dmz
            routes:
              - 10.1.0.0/24 via r
              - {to: default, via: 10.2.0.9, metric: 5}
              - fd09::/64 via fe80::1 dev eth0
              - default dev eth0 metric 7
    """)
    assert lab.node("a").routes == (Route(to="0.0.0.0/0", via="10.1.0.1", interface="eth0"),)
    assert lab.node("b").routes == (
        Route(to="0.0.0.0/0", via="10.2.0.1", interface="eth0"),
        Route(to="::/0", via="fd02::1", interface="eth0"),
    )
    assert lab.node("c").routes == (
        Route(to="10.1.0.0/24", via="10.2.0.1"),
        Route(to="0.0.0.0/0", via="10.2.0.9", metric=5),
        Route(to="fd09::/64", via="fe80::1", interface="eth0"),
        Route(to="0.0.0.0/0", interface="eth0", metric=7),
        Route(to="::/0", interface="eth0", metric=7),
    )


def test_root() -> None:
    assert node_of("{root: machine}").root == node_of("{}").root
    assert node_of("{root: ./tree}").root.path == "/labs/tree"
    assert node_of("{root: {directory: /srv/tree}}").root.path == "/srv/tree"


def test_count_makes_nodes_that_a_check_can_name_together() -> None:
    lab = lab_of("""
        segments: [lan]
        nodes: {web: {count: 3}, a: }
        checks: [{on: [web, a], reaches: web2}]
    """)
    assert [node.name for node in lab.nodes] == ["web1", "web2", "web3", "a"]
    assert lab.checks[0].nodes == ("web1", "web2", "web3", "a")


def test_checks_and_their_arguments() -> None:
    lab = lab_of("""
        segments: [lan]
        roles:
          r: {checks: [{command: "true"}]}
        nodes:
          a:
            role: r
            jobs: {web: x}
            checks:
              - {listens: 80, within: 200ms}
              - listens: 53/udp
              - job: {web: running}
              - {file: /etc/motd, always: 2s}
              - {file: {path: /run/x, is: link, mode: 0640, owner: ":www", target: ../y}, never: 3s}
              - sysctl: {net.ipv4.ip_forward: 1, vm/swappiness: 60}
          b: {role: r}
        checks:
          - {on: a, http: "http://b:8080/x"}
          - {on: [a, r], reaches: "b:53/udp"}
          - {on: r, not_reaches: "[fd00::1]:22"}
          - {on: b, reaches: 10.0.0.1}
          - {on: b, command: {run: id, stdout: uid, status: 1}}
    """)
    assert [(c.kind, c.nodes, c.arguments) for c in lab.checks] == [
        ("http", ("a",), {"url": "http://b:8080/x", "status": 200, "body": None,
                          "verify": True, "follow": False}),
        ("reaches", ("a", "b"), {"host": "b", "port": 53, "protocol": "udp"}),
        ("not_reaches", ("a", "b"), {"host": "fd00::1", "port": 22, "protocol": "tcp"}),
        ("reaches", ("b",), {"host": "10.0.0.1", "port": None, "protocol": "icmp"}),
        ("command", ("b",), {"run": "id", "status": 1, "stdout": "uid"}),
        ("command", ("a", "b"), {"run": "true", "status": 0, "stdout": None}),
        ("listens", ("a",), {"port": 80, "protocol": "tcp", "address": None}),
        ("listens", ("a",), {"port": 53, "protocol": "udp", "address": None}),
        ("job", ("a",), {"name": "web", "state": "running"}),
        ("file", ("a",), {"path": "/etc/motd", "is": None, "mode": None, "owner": None,
                          "contains": None, "target": None}),
        ("file", ("a",), {"path": "/run/x", "is": "link", "mode": 0o640, "owner": ":www",
                          "contains": None, "target": "../y"}),
        ("sysctl", ("a",), {"name": "net.ipv4.ip_forward", "value": "1"}),
        ("sysctl", ("a",), {"name": "vm.swappiness", "value": "60"}),
    ]  # fmt: skip
    assert [(c.always_s, c.never_s) for c in lab.checks[9:11]] == [(2.0, None), (None, 3.0)]
    assert lab.checks[6].within_s == 0.2
    place = lab.checks[6].place
    assert place is not None
    assert (place.file, place.line, place.column) == ("lab.yaml", 10, 9)


def test_a_role_that_is_called_as_its_nodes_are_asks_each_once() -> None:
    lab = lab_of("""
        roles: {web: {checks: [{listens: 80, name: it listens}]}}
        nodes: {web: {count: 2, role: web}}
    """)
    (check,) = lab.checks
    assert (check.nodes, check.name, check.about) == (("web1", "web2"), "it listens", ("web",))


def test_checks_of_a_hosts_own_state() -> None:
    lab = lab_of("""
        segments: [lan]
        nodes:
          a:
            checks:
              - service: nginx
              - {service: {name: cron, enabled: false}}
              - {process: {name: cron, count: 1}}
              - package: nginx-light
              - {user: {name: www, groups: adm}, if: {file: /etc/passwd}}
              - group: adm
              - {mount: {path: /srv, options: [ro, nosuid]}}
              - interface: lo
              - address: 10.0.0.1/24 dev eth0
              - route: default via r1
              - {command: {run: x, matches: "^7", above: -1.5, stdout: [a, b]}}
              - {file: {path: /x, lacks: debug, size: 0}}
    """)
    assert [(c.kind, c.arguments) for c in lab.checks] == [
        ("service", {"name": "nginx", "running": True}),
        ("service", {"name": "cron", "enabled": False}),
        ("process", {"name": "cron", "count": 1}),
        ("package", {"name": "nginx-light"}),
        ("user", {"name": "www", "groups": ["adm"]}),
        ("group", {"name": "adm"}),
        ("mount", {"path": "/srv", "options": ["ro", "nosuid"]}),
        ("interface", {"name": "lo"}),
        ("address", {"address": "10.0.0.1/24", "interface": "eth0"}),
        ("route", {"to": "default", "via": "r1"}),
        ("command", {"run": "x", "status": 0, "matches": "^7", "above": -1.5,
                     "stdout": ["a", "b"]}),
        ("file", {"path": "/x", "is": None, "mode": None, "owner": None, "contains": None,
                  "target": None, "lacks": "debug", "size": 0}),
    ]  # fmt: skip
    condition = lab.checks[4].condition
    assert condition is not None
    assert (condition.kind, condition.arguments["path"]) == ("file", "/etc/passwd")


FILES = {
    "motd": b"\xff\x00",
    "t/hosts.in": b"${node} ${lab} ${hostname} $address ${address6} ${b-1.address} $$ $colour\n",
    "profile.json": b'{"defaultAction": "SCMP_ACT_ALLOW"}',
}


def read(path: str) -> bytes:
    try:
        return FILES[path]
    except KeyError:
        raise FileNotFoundError(2, "No such file or directory", path) from None


def test_files_inline_copied_and_filled_in() -> None:
    lab = lab_of(
        """
        name: x
        segments: [lan]
        nodes:
          a:
            hostname: a.example
            variables: {colour: red}
            seccomp: profile.json
            files:
              /etc//one: hello
              /etc/two: {copy: motd, mode: 4755, owner: "www-data:adm", capabilities: cap_kill=ep}
              /etc/three: {template: t/hosts.in, owner: bob}
          b-1:
    """,
        read,
    )
    one, two, three = lab.node("a").files
    assert (one.path, one.content, one.mode, one.owner) == ("/etc/one", b"hello", 0o644, "root")
    assert (two.content, two.mode, two.owner, two.group) == (b"\xff\x00", 0o4755, "www-data", "adm")
    assert two.capabilities == "cap_kill=ep"
    assert three.content == b"a x a.example 10.0.0.1 fd00::1 10.0.0.2 $ red\n"
    assert (three.owner, three.group) == ("bob", "root")
    assert lab.node("a").seccomp == FILES["profile.json"].decode()


def test_a_file_of_many_nodes_is_read_once() -> None:
    asked: list[str] = []

    def counted(path: str) -> bytes:
        asked.append(path)
        return b"hello"

    lab = lab_of("nodes: {a: {count: 5, files: {/m: {copy: motd}}}}", counted)
    assert [node.files[0].content for node in lab.nodes] == [b"hello"] * 5
    assert asked == ["motd"]


def test_a_check_of_a_node_may_be_about_another_and_one_about_nobody_is_none() -> None:
    lab = lab_of("""
        roles: {unused: {checks: [{listens: 1}]}}
        nodes:
          a: {checks: [{on: b, listens: 2}]}
          b:
    """)
    assert [(check.nodes, check.arguments["port"]) for check in lab.checks] == [
        ((), 1),
        (("b",), 2),
    ]


@pytest.mark.parametrize(
    ("said", "units"),
    [
        ("{}", None),
        ("{units: }", None),
        ("{units: []}", Units()),
        ("{units: nginx}", Units(start=("nginx.service",))),
        ("{units: [nginx, a.timer, nginx.service]}", Units(start=("nginx.service", "a.timer"))),
        ("{units: true}", Units(enabled=True)),
        ("{units: {start: a.socket, enabled: true, directories: /etc/units}}",
         Units(start=("a.socket",), enabled=True, directories=("/etc/units",))),
    ],
)  # fmt: skip
def test_units(said: str, units: Units | None) -> None:
    assert node_of(said).units == units


def test_units_of_a_role_and_of_a_node_are_joined() -> None:
    lab = lab_of(
        "{name: x, roles: {r: {units: [a]}}, "
        "nodes: {n: {role: r, units: {start: b, enabled: true}}}}"
    )
    assert lab.node("n").units == Units(start=("a.service", "b.service"), enabled=True)


def test_a_template_is_no_unit_to_start() -> None:
    with pytest.raises(SpecErrors, match="is a template"):
        node_of("{units: getty@}")
