"""Targets taken from a node and from this machine, and operations met by a host as it is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hostlab.firewall import beside, target_of
from hostlab.firewall.stage import Stage, StageNode
from hostlab.firewall.target import Target, TargetInterface, TargetRoute
from tests.netns.lab.lab_site import probe

pytestmark = pytest.mark.netns

TARGET = Target(
    interfaces=(
        TargetInterface(name="wan0", addresses=("203.0.113.10/24", "2001:db8::10/64"), mtu=1400),
        TargetInterface(name="cloud0", addresses=("10.0.0.1/32",)),
        TargetInterface(name="off0", is_up=False),
    ),
    routes=(
        TargetRoute(to="0.0.0.0/0", via="203.0.113.1", interface="wan0"),
        # As clouds have it: the gateway is in no prefix of the interface.
        TargetRoute(to="10.1.0.0/16", via="172.16.0.1", interface="cloud0"),
        TargetRoute(to="2001:db8:9::/48", via="2001:db8::1", interface="wan0", metric=7),
    ),
    sysctls=(("net.ipv4.ip_forward", "1"),),
)


@pytest.fixture
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StageNode]:
    probe()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOSTLAB_RUN", str(tmp_path_factory.mktemp("stage") / "run"))
        with Stage(TARGET) as stage:
            yield stage.nodes["stage"]


def test_a_node_is_taken_as_it_was_made(node: StageNode) -> None:
    found = target_of.of_node(node)
    assert sorted(found.interfaces, key=lambda each: each.name) == sorted(
        TARGET.interfaces, key=lambda each: each.name
    )
    assert {(r.to, r.via, r.interface) for r in found.routes} == {
        (r.to, r.via, r.interface) for r in TARGET.routes
    }
    assert next(r.metric for r in found.routes if r.to == "2001:db8:9::/48") == 7
    assert found.sysctls == TARGET.sysctls

    # Operations of another host: what is there already is left out, and undone to what is here.
    add = ("ip", "address", "add", "203.0.113.10/24", "dev", "wan0")
    operations = (
        beside.sysctl("net.ipv4.ip_forward", "0", "1"),
        beside.sysctl("net.ipv4.conf.all.log_martians", "1", "1"),
        beside.Operation(kind=beside.Kind.ADDRESS, subject="wan0", do=add),
        beside.only_there(("systemctl", "restart", "x")),
    )
    needed = beside.as_found(node.execute, operations, pid=node.pid)
    assert [each.describe() for each in needed] == [
        "sysctl -qw net.ipv4.conf.all.log_martians=1",
        "systemctl restart x",
    ]
    assert needed[0].undo == ("sysctl", "-qw", "net.ipv4.conf.all.log_martians=0")


def test_this_machine_is_only_read() -> None:
    found = target_of.this_machine()
    assert "lo" not in {each.name for each in found.interfaces}
    assert found == target_of.this_machine()
