"""A node's firewall in a description: what it means, and what cannot be meant."""

from __future__ import annotations

import subprocess
import textwrap

import pytest

from hostlab.errors import SpecError, SpecErrors
from hostlab.spec import load
from hostlab.spec.firewall import Ends, Firewall, Service, Verdict, Zone, same_but_places
from hostlab.spec.services import SERVICES

pytestmark = pytest.mark.unit

LAB = """
segments: {world: [203.0.113.0/24, "fd00::/64"], lan: [10.1.0.0/24, "fd01::/64"]}
nodes:
  r:
    interfaces: {wan0: world, lan0: lan}
    forwarding: true
    firewall:
"""
OTHERS = """
  web: lan
  admin: world
"""


def source(text: str) -> str:
    return LAB + textwrap.indent(textwrap.dedent(text).strip("\n"), " " * 6) + OTHERS


def read(text: str) -> Firewall:
    found = load(source(text), file="lab.yaml").node("r").firewall
    assert found is not None
    return found


def one(text: str) -> SpecError:
    with pytest.raises(SpecErrors) as caught:
        load(source(text), file="lab.yaml")
    assert len(caught.value.errors) == 1, str(caught.value)
    return caught.value.errors[0]


def test_zones_are_interfaces_by_their_names_or_their_segments() -> None:
    found = read("zones: {wan: wan0, inside: {interfaces: [lan], default: reject}}")
    assert found.zones == (
        Zone(name="wan", interfaces=("wan0",)),
        Zone(name="inside", interfaces=("lan0",), default=Verdict.REJECT),
    )
    assert read("zones: [world, lan]").zones == (
        Zone(name="world", interfaces=("wan0",)),
        Zone(name="lan", interfaces=("lan0",)),
    )


@pytest.mark.parametrize(
    ("text", "default"),
    [
        ("zones: [lan]", "drop"),
        ("allow: ssh", "drop"),
        ("deny: ssh", "accept"),
        ("masquerade: []", "accept"),
        ("{zones: [lan], default: reject}", "reject"),
    ],
)
def test_what_no_rule_is_about(text: str, default: str) -> None:
    assert read(text).default == default


def test_one_line_and_a_mapping_say_the_same() -> None:
    line = read("{zones: [lan], allow: ['ssh, 6000-6010/udp from lan, 203.0.113.9 to admin']}")
    mapping = read("""
        zones: [lan]
        allow:
          - services: [ssh, 6000-6010/udp]
            from: [lan, 203.0.113.9]
            to: admin
    """)
    assert line != mapping
    assert same_but_places(line, mapping)
    (rule,) = line.allow
    assert rule.said == "allow ssh, 6000-6010/udp from lan, 203.0.113.9 to admin"
    assert rule.services == (
        Service(protocol="tcp", first=22, last=22),
        Service(protocol="udp", first=6000, last=6010),
    )
    assert rule.sources == Ends(interfaces=("lan0",), addresses=("203.0.113.9/32",))
    assert rule.targets == Ends(addresses=("203.0.113.2/32", "fd00::2/128"))


def test_ends_left_out_and_the_nodes_own_addresses() -> None:
    (rule,) = read("allow: ssh").allow
    assert (rule.sources, rule.targets) == (Ends(anywhere=True), Ends(host=True))
    (rule,) = read("deny: ntp from host").deny
    assert (rule.sources, rule.targets) == (Ends(host=True), Ends(anywhere=True))
    (rule,) = read("allow: any to r, 10.1.0.1, 10.1.0.0/24").allow
    assert rule.services == ()
    assert rule.targets == Ends(host=True, own=("10.1.0.1/32",), addresses=("10.1.0.0/24",))


def test_a_published_port_leads_to_a_nodes_addresses_or_to_one_that_is_said() -> None:
    found = read("""
        zones: {wan: wan0}
        publish: [8080 from wan to web:80, "53/udp to 10.1.0.9", {port: 2222, to: "[fd01::9]:22"}]
    """)
    assert [(e.protocol, e.port, e.interfaces, e.addresses, e.inner) for e in found.publish] == [
        ("tcp", 8080, ("wan0",), ("10.1.0.2", "fd01::2"), 80),
        ("udp", 53, (), ("10.1.0.9",), 53),
        ("tcp", 2222, (), ("fd01::9",), 22),
    ]


def test_raw_words_keep_the_place_of_their_first_line() -> None:
    found = read("raw: |\n\n  chain mine {\n  }")
    assert found.raw == "chain mine {\n}"
    assert found.raw_place is not None
    assert (found.raw_place.line, found.raw_place.column) == (10, 9)
    alone = load(LAB.rstrip() + " 'set s { type ipv4_addr; }'" + OTHERS, file="lab.yaml")
    firewall = alone.node("r").firewall
    assert firewall is not None
    assert (firewall.raw, firewall.default) == ("set s { type ipv4_addr; }", Verdict.ACCEPT)


def test_roles_and_nodes_put_their_rules_together() -> None:
    text = """
        segments: [lan]
        roles:
          base: {firewall: {allow: ssh}}
        nodes:
          web: {role: base, firewall: {allow: http}}
    """
    firewall = load(text, file="lab.yaml").node("web").firewall
    assert firewall is not None
    assert [rule.said for rule in firewall.allow] == ["allow ssh", "allow http"]


ERRORS = [
    ("allwo: ssh", "unknown key `allwo` in a firewall", "did you mean `allow`?"),
    ("allow: shh", "`shh` is no service that is known here", "did you mean `ssh`?"),
    ("allow: {service: htp}", "`htp` is no service that is known here", "did you mean `http`?"),
    ("allow: 10-2", "`10-2` counts downwards", "write `2-10`"),
    ("allow: 70000", "`70000` is not a port, 1 to 65535", "write `SERVICE[, SERVICE]"),
    ("allow: ssh from", "nothing stands for `from`", "write `SERVICE[, SERVICE]"),
    ("allow: ssh from a from b", "`from` is here twice", "write `SERVICE[, SERVICE]"),
    ("allow: ssh from wen", "there is no zone or node `wen`", "did you mean `web`?"),
    ("allow: ssh from 10.0.0.1/8", "`10.0.0.1/8` has bits behind", "did you mean `10.0.0.0/8`?"),
    ("allow: ssh from host to host", "what the node sends to itself always passes", ""),
    ("allow: ssh from host, web to web", "`host` stands alone in `from`", ""),
    ("zones: {wan: wan1}", "`r` has no interface `wan1`", "did you mean `wan0`?"),
    ("zones: {a: wan0, b: wan0}", "`wan0` is in the zone `a` already", ""),
    ("zones: {host: wan0}", "`host` cannot be a zone's name", ""),
    ("{zones: [lan], masquerade: wan}", "there is no zone `wan`", "did you mean `lan`?"),
    ("masquerade: wan", "there is no zone `wan`", "declare it under `zones`"),
    ("default: deny", "`deny` is none of drop, reject, accept", ""),
    ("publish: 80", "`80` leads nowhere", "write `PORT[/udp] [from ZONE]"),
    ("publish: 80 to webb", "there is no node `webb`", "did you mean `web`?"),
    ("publish: [80 to web, 80 to 10.1.0.3]", "80/tcp leads elsewhere already", ""),
    ("publish: 80 to web:80/udp", "the protocol stands with the port", "write `80/udp`"),
    ("raw: '}'", "this closes more braces than it opens", "it stands inside `table inet hostlab"),
    ("raw: 'chain a {'", "this leaves a brace open", "it stands inside `table inet hostlab"),
]


@pytest.mark.parametrize(("text", "message", "hint"), ERRORS, ids=[e[0] for e in ERRORS])
def test_what_cannot_be_meant_has_a_place_and_a_way_out(text: str, message: str, hint: str) -> None:
    error = one(text)
    assert error.where is not None
    assert error.where.line == 8
    assert error.message.startswith(message)
    assert (error.hint or "").startswith(hint)


def test_nat_needs_a_node_that_forwards() -> None:
    text = source("{zones: {wan: wan0}, masquerade: wan}").replace("forwarding: true", "")
    with pytest.raises(SpecErrors, match="add `forwarding: true`"):
        load(text, file="lab.yaml")


def test_a_node_in_anothers_network_has_no_firewall_of_its_own() -> None:
    text = source("allow: ssh") + "  pod: {namespaces: {net: r}, firewall: {allow: ssh}}\n"
    with pytest.raises(SpecErrors, match="its owner has the firewall"):
        load(text, file="lab.yaml")


def test_an_interface_that_nft_cannot_name_is_told() -> None:
    text = source("zones: {wan: 'wan*'}").replace("wan0: world", "'wan*': world")
    with pytest.raises(SpecErrors, match="nft cannot name the interface `wan\\*`"):
        load(text, file="lab.yaml")


def test_names_of_services_are_those_of_the_machine() -> None:
    """/etc/services is Debian's netbase's; the few that it lacks or calls otherwise are IANA's."""
    for name, services in SERVICES.items():
        for each in services if services and services[0].first else ():
            asked = ["getent", "services", f"{name}/{each.protocol}"]
            done = subprocess.run(asked, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                ports = {s.first for s in services}
                assert int(done.stdout.split()[1].partition("/")[0]) in ports, name
