"""A Compose file becomes a description that loads, and what does not is listed with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hostlab.errors import SpecErrors
from hostlab.spec import load
from hostlab.spec.compose import import_compose
from hostlab.spec.importing import Imported
from hostlab.spec.model import Lab, Limits

pytestmark = pytest.mark.unit

SHOP = (Path(__file__).parents[2] / "data" / "compose-shop.yaml").read_text()


def read(text: str, **variables: str) -> Imported:
    return import_compose(text, file="compose.yaml", variables=variables)


def lab_of(imported: Imported) -> Lab:
    return load(imported.text, file="lab.yaml", directory="/srv")


def service(text: str) -> tuple[dict[str, Any], list[str]]:
    """The one node that a service with these keys becomes, and the notes."""
    lines = "\n".join("    " + line for line in text.splitlines())
    imported = read(f"services:\n  s:\n    command: run\n{lines}\n  t:\n    command: run\n")
    nodes = yaml.safe_load(imported.text)["nodes"]
    return nodes["s"], [note.message for note in imported.notes]


def test_a_shop_loads_as_a_lab() -> None:
    lab = lab_of(read(SHOP))
    assert lab.name == "shop"
    assert [node.name for node in lab.nodes] == ["proxy", "app-1", "app-2", "db", "cache", "tool"]
    front, back = lab.segments
    assert front.subnets == ("172.16.238.0/24", "2001:3984:3989::/64")
    assert (front.mtu, front.machine) == (1450, ("172.16.238.1/24",))
    assert back.name == "back"


def test_the_shops_proxy() -> None:
    proxy = lab_of(read(SHOP)).node("proxy")
    assert proxy.hostname == "www"
    assert [interface.segment for interface in proxy.interfaces] == ["back", "front"]
    assert proxy.interfaces[1].addresses == ("172.16.238.10/24", "2001:3984:3989::10/64")
    ports = {(p.address, p.port, p.inner, p.protocol) for p in proxy.publish}
    assert ports == {
        (None, 8080, 80, "tcp"),
        ("127.0.0.1", 8443, 443, "tcp"),
        (None, 9000, 9000, "udp"),
        (None, 9001, 9001, "udp"),
        (None, 9002, 9002, "udp"),
        ("::1", 5353, 53, "udp"),
    }
    assert proxy.capabilities == ("CHOWN", "NET_BIND_SERVICE")
    assert proxy.limits == Limits(memory=50 * 2**20, cpu=0.5, pids=100)
    assert proxy.jobs[0].argv == ("nginx", "-g", "daemon off;")
    volumes = [(v.source, v.target, v.writable) for v in proxy.volumes]
    assert volumes == [
        ("/srv/nginx.conf", "/etc/nginx/nginx.conf", False),
        ("logs", "/var/log/nginx", True),
        ("proxy-var-cache-nginx", "/var/cache/nginx", True),
        ("/srv/static", "/srv/static", False),
    ]


def test_the_shops_others() -> None:
    lab = lab_of(read(SHOP, TOKEN="secret"))
    app = lab.node("app-1")
    assert {(link.node, link.alias) for link in app.links} >= {
        ("db", "store"),
        ("cache", "cache"),
        ("proxy", "gateway.example"),
    }
    assert app.jobs[0].argv == ("python3", "-m", "app", "--name", "my app")
    assert (app.jobs[0].user, app.jobs[0].group, app.jobs[0].directory) == (
        *("1000", "1000"),
        "/srv/app",
    )
    assert app.limits == Limits(memory=2**30, cpus="0,1")
    second = lab.node("app-2")
    assert second.jobs[0].exec == "/usr/bin/app --verbose"
    assert dict(second.environment) == {"DB_HOST": "db", "DEBUG": "yes", "TOKEN": "secret"}
    database = lab.node("db")
    assert database.no_new_privs
    assert database.limits == Limits(cpu=1.5, pids=64)
    assert ("net.core.somaxconn", "1024") in database.sysctls
    assert lab.node("cache").namespaces == (("net", "db"),)
    assert lab.node("tool").interfaces == ()


def test_the_shops_checks() -> None:
    checks = {check.nodes: check for check in lab_of(read(SHOP)).checks}
    assert checks[("proxy",)].arguments["run"] == "curl -f http://localhost"
    assert checks[("proxy",)].within_s == 40 + 3 * (90 + 10)
    assert checks[("db",)].within_s == 3 * (30 + 30)


def test_what_the_shop_says_beyond_is_listed_in_order_with_places() -> None:
    notes = [str(note) for note in read(SHOP, TAG="7").notes]
    assert notes == sorted(notes, key=lambda note: [int(n) for n in note.split(":")[1:3]])
    text = "\n".join(notes)
    for said in (
        "compose.yaml:6:3: `image` `example/app:7`: the machine's own file system stands in",
        "compose.yaml:22:9: `3000` names no port of the machine",
        "a volume of type `tmpfs` is left out",
        "`reservations` is left out",
        "the node `app_1` is called `app-1`",
        "no node has the address `192.0.2.1`",
        "`env_file` was not read",
        "`depends_on` is left out",
        "`replicas` is `2`",
        "the variable `TOKEN` is not set",
        "the image's own command is not known; give `db` a job",
        "`label:user:USER` is left out",
        "`privilegd` was not understood; did you mean `privileged`?",
        "`ip_range` is left out",
        "10.9.0.0/24 is left out: a segment has one prefix a family",
        "`secrets` is left out",
    ):
        assert said in text
    assert "x-app" not in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("environment: {A: 1, B: 'a b'}", {"environment": {"A": "1", "B": "a b"}}),
        ("environment: [A=1, 'B=a=b']", {"environment": {"A": "1", "B": "a=b"}}),
        ("sysctls: {net.core.somaxconn: 7}", {"sysctls": {"net.core.somaxconn": "7"}}),
        ("mac_address: '02:00:00:00:00:07'", {}),
        ("links: [t]", {"links": ["t"]}),
        ("expose: ['80', '53/udp']", {"expose": ["80", "53/udp"]}),
        ("storage_opt: {size: 1G}", {"limits": {"disk": "1G"}}),
        ("security_opt: ['seccomp:unconfined']", {"seccomp": "unconfined"}),
        ("security_opt: [apparmor=one]", {"apparmor": "one"}),
        ("network_mode: 'service:t'", {"namespaces": {"net": "t"}}),
        ("healthcheck: {disable: true, test: x}", {}),
        ("healthcheck: {test: [NONE]}", {}),
        ("pids_limit: -1", {}),
        ("network_mode: bridge", {"interfaces": {"eth0": {"segment": "default"}}}),
        ("cpu_quota: 50000\ncpu_period: 200000", {"limits": {"cpu": 0.25}}),
    ],
)
def test_one_key(text: str, expected: dict[str, Any]) -> None:
    node, notes = service(text)
    assert notes == []
    for key, value in expected.items():
        assert node[key] == value


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("network_mode: host", "`network_mode` `host` is left out"),
        ("networks: [nowhere]", "names `nowhere`, which is not there"),
        ("mem_limit: much", "`much` is no size"),
        ("command: 'a \"b'", "open quotation"),
        ("links: [nobody]", "there is no service `nobody`"),
        ("environment: 7", "the variable `7` is not set"),
        ("environment: {A: [1]}", "`A` was not understood: a text belongs here"),
        ("ports: 80", "`ports` was not understood: a list belongs here"),
        ("deploy: x", "`deploy` was not understood: a mapping belongs here"),
        ("ports: [{target: 80}]", "names no port of the machine"),
        ("healthcheck: {test: [RUN, x]}", "`RUN`"),
        ("networks: {default: {link_local_ips: [169.254.8.8]}}", "`link_local_ips` is left out"),
    ],
)
def test_one_note(text: str, note: str) -> None:
    if text.startswith("command"):
        imported = read(f"services:\n  s:\n    {text}\n")
        assert note in str(imported.notes)
        return
    _, notes = service(text)
    assert note in "\n".join(notes)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("restart: 'no'", {}),
        ("restart: always", {"respawn": {"limit": "unlimited", "delay": ["100ms", "1m"]}}),
        ("restart: unless-stopped",
         {"respawn": {"limit": "unlimited", "delay": ["100ms", "1m"]}}),
        ("restart: on-failure:3",
         {"respawn": {"limit": 3, "delay": ["100ms", "1m"], "interval": "1m"},
          "normal_exit": [0]}),
        ("deploy: {restart_policy: {condition: on-failure, max_attempts: 2, delay: 5s, "
         "window: 2m}}",
         {"respawn": {"limit": 2, "delay": "5s", "interval": "120s"}, "normal_exit": [0]}),
        ("deploy: {restart_policy: {condition: none}}", {}),
        ("restart: always\ndeploy: {restart_policy: {condition: none}}", {}),
        ("stop_signal: SIGINT\nstop_grace_period: 1m30s",
         {"kill": {"signal": "SIGINT", "timeout": "90s"}}),
        ("stop_signal: 10", {"kill": {"signal": 10}}),
        ("group_add: [adm, '1000']", {"groups": ["adm", "1000"]}),
        ("oom_score_adj: -500", {"oom_score_adj": -500}),
        ("ulimits: {nproc: 65535, nofile: {soft: 20, hard: -1}}",
         {"rlimits": {"nproc": 65535, "nofile": [20, "unlimited"]}}),
    ],
)  # fmt: skip
def test_how_a_service_runs_is_its_jobs(text: str, keys: dict[str, Any]) -> None:
    node, notes = service(text)
    assert notes == []
    assert node["jobs"]["main"] == ({"exec": "run"} | keys if keys else "run")
    load(yaml.safe_dump({"nodes": {"s": {"jobs": node["jobs"]}}}), file="lab.yaml")


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("restart: sometimes", "`restart` was not understood: `sometimes`"),
        ("restart: always:x", "`restart` was not understood: `always:x`"),
        ("stop_signal: SIGRTMIN+3", "`stop_signal` was not understood"),
        ("stop_grace_period: long", "`long` is no time"),
        ("oom_score_adj: 2000", "2000 is not between -1000 and 1000"),
        ("ulimits: {nofile: {soft: 2, hard: 1}}", "the soft limit is above the hard one"),
        ("ulimits: {nofile: {soft: 2}}", "`` is not a limit"),
        ("ulimits: {files: 2}", "a job has no limit of this name"),
        ("post_start: [{command: x}]", "`post_start` is left out; write it as a step of the job"),
    ],
)
def test_what_a_job_cannot_take_over_is_noted(text: str, note: str) -> None:
    node, notes = service(text)
    assert note in "\n".join(notes)
    assert node["jobs"] == {"main": "run"}


def test_how_a_service_runs_whose_command_is_not_known_is_noted() -> None:
    imported = read("services: {s: {image: x, restart: always, stop_signal: INT}}")
    assert "the job of `s` must say `kill`, `respawn`" in str(imported.notes)


def test_an_alias_is_a_link_of_the_others_on_that_network() -> None:
    text = """
services:
  a: {command: x, networks: {one: {aliases: [first]}, two: {}}}
  b: {command: x, networks: [one]}
  c: {command: x, networks: [two]}
networks: {one: , two: }
"""
    lab = lab_of(read(text))
    links = {node.name: [(link.node, link.alias) for link in node.links] for node in lab.nodes}
    assert links == {"a": [], "b": [("a", "first")], "c": []}


def test_without_networks_all_are_on_the_default_one() -> None:
    lab = lab_of(read("services: {a: {command: x}, b: {command: x}}"))
    assert [segment.name for segment in lab.segments] == ["default"]
    assert all(node.interfaces[0].segment == "default" for node in lab.nodes)


def test_networks_and_volumes_that_say_more() -> None:
    imported = read("""
services: {a: {command: x, networks: {default: {mac_address: '02:00:00:00:00:07'}}}}
networks: {default: {internal: true, driver: macvlan, ipam: {driver: dhcp}}}
volumes: {v: {driver: nfs, driver_opts: {o: addr}}, w: {driver: local}}
""")
    interface = lab_of(imported).node("a").interfaces[0]
    assert (interface.segment, interface.mac) == ("default", "02:00:00:00:00:07")
    assert [note.message for note in imported.notes] == [
        "`driver` is `macvlan`; a segment is a bridge",
        "`driver` is left out: addresses are assigned by the lab",
        "`driver` is left out: a volume is a directory of the lab",
        "`driver_opts` is left out: a volume is a directory of the lab",
    ]


@pytest.mark.parametrize("text", ["a: 1", "services:", "- a", "services: {a: {b: !x 1}}"])
def test_what_is_no_compose_file_is_an_error(text: str) -> None:
    with pytest.raises(SpecErrors) as caught:
        read(text)
    assert all(error.where for error in caught.value.errors)


_KEYS = st.sampled_from(
    [
        *("services", "networks", "volumes", "a", "b", "ports", "environment", "command", "deploy"),
        *("healthcheck", "test", "ipam", "config", "subnet", "links", "extra_hosts", "target"),
        *("cpus", "mem_limit", "limits", "resources", "interval", "retries", "type", "source"),
        *("network_mode", "aliases", "ipv4_address", "published", "driver_opts", "priority"),
        *("restart", "restart_policy", "condition", "ulimits", "nofile", "soft", "stop_signal"),
    ]
)
_WORDS = st.sampled_from(
    ["1", "a", "8000:80", "a:/b:ro", "CMD", "10.0.0.0/24", "10.0.0.1", "5s", "9" * 99, "${", "'"]
) | st.text(max_size=6)
_TREES = st.recursive(
    st.none() | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(_KEYS, _TREES), st.dictionaries(_KEYS, st.dictionaries(_KEYS, _TREES)))
def test_anything_is_imported_or_refused_with_a_place(
    top: dict[str, Any], services: dict[str, Any]
) -> None:
    text = yaml.dump({**top, "services": services}, Dumper=yaml.CSafeDumper)
    try:
        imported = read(text)
    except SpecErrors as error:
        assert error.errors[0].where  # noqa: PT017
    else:
        found = yaml.load(imported.text, Loader=yaml.CSafeLoader)
        assert set(found) <= {"name", "segments", "nodes"}
