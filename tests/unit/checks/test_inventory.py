"""Every kind of inventory, what is wrong with one, and whose checks a host has."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostlab.checks.inventory import InventoryHost, parse
from hostlab.checks.outside import by_ssh, live
from hostlab.errors import SpecError, UsageError
from hostlab.spec import load

pytestmark = pytest.mark.unit

NAMES = """\
# the notebook's
web-10
memc-2
web-*: web
*: all, front
"""
INI = """\
db9.example ansible_host=192.0.2.9
[web]
web[08:10] ansible_port=2222
[web:vars]
ansible_user=admin
ansible_ssh_common_args='-o ProxyJump=gate'
[front:children]
web
"""
YAML = """\
all:
  vars: {ansible_user: admin}
  hosts: {lone: {ansible_connection: local}}
  children:
    front:
      children:
        web: {hosts: {"web[1:2]": {ansible_user: root}}}
"""
SSH_CONFIG = """\
# role: web-*: web
Host web-1 web-2
  Port 2222
Host *
  User me
"""


def roles(text: str, file: str = "hosts") -> dict[str, tuple[str, ...]]:
    return {host.name: host.roles for host in parse(text, file).hosts}


def test_each_kind_is_told_by_itself() -> None:
    assert roles(NAMES) == {"web-10": ("web", "all", "front"), "memc-2": ("all", "front")}
    front = ("web", "front")
    assert roles(INI) == {"db9.example": (), "web08": front, "web09": front, "web10": front}
    assert roles(YAML) == {"lone": (), "web1": front, "web2": front}
    assert roles(SSH_CONFIG) == {"web-1": ("web",), "web-2": ("web",)}
    assert parse(SSH_CONFIG, "c").is_ssh_config


def test_what_ansible_says_of_a_host() -> None:
    first, web, *_ = parse(INI, "hosts").hosts
    assert first == InventoryHost(name="db9.example", address="192.0.2.9")
    said = (web.port, web.user, web.arguments)
    assert said == (2222, "admin", ("-o", "ProxyJump=gate"))
    lone, own, _ = parse(YAML, "hosts").hosts
    assert (lone.is_local, lone.user, own.user) == (True, "admin", "root")


@pytest.mark.parametrize(
    ("text", "file", "message"),
    [
        ("", "hosts", "names no host"),
        ("web 1\n", "hosts", "hosts:1:1: 'web 1' is no host's name"),
        ("-oProxyCommand=x\n", "hosts", "is no host's name"),
        ("[web]\n-x\n", "hosts", "hosts:2:1: '-x' is no host's name"),
        ("[web:all]\nx\n", "hosts", "neither `vars` nor"),
        ("[web]\nw[1:a]\n", "hosts", "is no range"),
        ("[web]\nw[1:999999999]\n", "hosts", "more than"),
        ("[web]\nw ansible_port=x\n", "hosts", "is not a port"),
        ("[web]\nw a='b\n", "hosts", "hosts:2:1: No closing quotation"),
        (
            "[web]\nw\n[web:vars]\nansible_ssh_common_args=-o A='b\n",
            "hosts",
            "w: ansible_ssh_common_args: No closing quotation",
        ),
        ("all: [", "h.yaml", "h.yaml:2:1: did not find"),
        ("all: {hosts: [a]}", "h.yaml", "all.hosts is a list"),
        ("Host -x\n", "config", "is no host's name"),
    ],
)
def test_what_is_wrong_is_told(text: str, file: str, message: str) -> None:
    with pytest.raises(SpecError) as told:
        parse(text, file)
    assert message in str(told.value)


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("ab[]:10=-{} \n\"'#*.!"), max_size=60), st.booleans())
def test_any_text_is_an_inventory_or_an_error(text: str, is_yaml: bool) -> None:
    try:
        found = parse(text, "h.yaml" if is_yaml else "hosts")
    except SpecError:
        return
    assert found.hosts
    assert not any(host.name.startswith("-") for host in found.hosts)


GATE = '-o ProxyCommand="ssh -W %h:%p -q gate"'


@pytest.mark.parametrize(
    ("text", "file"),
    [
        (f"[web]\nw ansible_ssh_common_args='{GATE}'\n", "hosts"),
        (f"[web]\nw\n[web:vars]\nansible_ssh_common_args='{GATE}'\n", "hosts"),
        (f"[web]\nw\n[web:vars]\nansible_ssh_common_args={GATE}\n", "hosts"),
        (f"all: {{hosts: {{w: {{ansible_ssh_common_args: '{GATE}'}}}}}}\n", "h.yaml"),
    ],
)
def test_a_proxy_s_command_stays_one_word(text: str, file: str) -> None:
    (host,) = parse(text, file).hosts
    assert host.arguments == ("-o", "ProxyCommand=ssh -W %h:%p -q gate")


@pytest.mark.parametrize("word", ["auto", "auto_silent", "python3"])
def test_a_python_that_ansible_would_look_for_is_python3(word: str) -> None:
    (host,) = parse(f"[web]\nw ansible_python_interpreter={word}\n", "hosts").hosts
    assert host.python == "python3"


LAB = """
roles: {web: {checks: [{listens: 80}]}, all: {}}
segments: [lan]
nodes: {a: {role: web, checks: [{listens: 22}]}, b: }
checks: [{on: all, package: dpkg}, {on: [b, web], route: default}]
"""


def test_a_host_has_the_checks_of_its_name_and_of_its_roles() -> None:
    lab = load(LAB, file="lab.yaml")
    inventory = parse("a.example\nc\nb\nc: web\n", "hosts")
    derived, ways = by_ssh(lab, inventory, "hosts")
    assert {check.arguments.get("port", check.kind): check.nodes for check in derived.checks} == {
        "package": ("a.example", "c", "b"),
        "route": ("c", "b"),
        80: ("c",),
        22: ("a.example",),
    }
    assert ways["a.example"].argv is not None
    assert ways["a.example"].argv[-2:] == ("--", "a.example")
    assert ways["c"].repeat(("cat", "a b")) == "ssh -- c 'cat '\"'\"'a b'\"'\"''"
    # Nothing is installed there.
    assert ways["c"].repeat(("hostlab", "probe", "ntp", "b")) == ""


def test_which_node_this_machine_is() -> None:
    lab = load(LAB, file="lab.yaml")
    only, ways = live(lab, [], "b.example")
    assert [node.name for node in only.nodes] == list(ways) == ["b"]
    assert [check.kind for check in only.checks] == ["route"]
    assert list(live(lab, ["a"], "x")[1]) == ["a"]
    with pytest.raises(UsageError, match="which node is this machine, x"):
        live(lab, [], "x")
