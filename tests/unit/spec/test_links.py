"""Docker's link variables, as its documentation on legacy links shows them."""

from __future__ import annotations

import pytest

from hostlab.spec import load
from hostlab.spec.links import variables
from hostlab.spec.units import Endpoint

pytestmark = pytest.mark.unit


def test_one_port() -> None:
    found = variables("web2", "my-server", "172.17.0.5", [Endpoint(5432, "tcp")], [])
    assert found == [
        ("MY_SERVER_PORT", "tcp://172.17.0.5:5432"),
        ("MY_SERVER_PORT_5432_TCP", "tcp://172.17.0.5:5432"),
        ("MY_SERVER_PORT_5432_TCP_ADDR", "172.17.0.5"),
        ("MY_SERVER_PORT_5432_TCP_PORT", "5432"),
        ("MY_SERVER_PORT_5432_TCP_PROTO", "tcp"),
        ("MY_SERVER_NAME", "/web2/my-server"),
    ]


def test_the_lowest_port_is_the_links_and_tcp_goes_before_udp() -> None:
    ports = [Endpoint(53, "udp"), Endpoint(80, "tcp"), Endpoint(53, "tcp")]
    found = variables("a", "b", "10.0.0.1", ports, [])
    assert found[0] == ("B_PORT", "tcp://10.0.0.1:53")
    names = [name for name, _ in found if name.endswith("_ADDR")]
    assert names == ["B_PORT_53_TCP_ADDR", "B_PORT_53_UDP_ADDR", "B_PORT_80_TCP_ADDR"]


def test_ports_in_a_row_have_a_start_and_an_end() -> None:
    ports = [Endpoint(port, "tcp") for port in (12300, 12301, 12302, 80)]
    found = dict(variables("a", "b", "10.0.0.1", ports, []))
    assert found["B_PORT_12300_TCP_START"] == "tcp://10.0.0.1:12300"
    assert found["B_PORT_12300_TCP_PORT_START"] == "12300"
    assert found["B_PORT_12300_TCP_END"] == "tcp://10.0.0.1:12302"
    assert found["B_PORT_12300_TCP_PORT_END"] == "12302"
    assert not any(name.startswith("B_PORT_80_TCP_") and "START" in name for name in found)


def test_the_targets_environment_but_its_home_and_path() -> None:
    found = variables("a", "b", "10.0.0.1", [], [("HOME", "/"), ("PATH", "/bin"), ("K", "v=w")])
    assert found == [("B_NAME", "/a/b"), ("B_ENV_K", "v=w")]


def test_a_node_learns_its_links_by_the_segment_they_share() -> None:
    lab = load(
        """
segments: [lan, dmz]
nodes:
  myserver: {interfaces: [dmz, lan], publish: ["9000:8000"], expose: 8001/udp}
  client: {interfaces: lan, links: ["myserver:dingdong"], environment: {DINGDONG_NAME: mine}}
""",
        file="lab.yaml",
    )
    found = dict(lab.node("client").environment)
    assert found["DINGDONG_PORT_8000_TCP_ADDR"] == "10.0.0.1"
    assert found["DINGDONG_PORT_8001_UDP"] == "udp://10.0.0.1:8001"
    assert found["DINGDONG_NAME"] == "mine"
    assert (lab.node("client").links[0].node, lab.node("client").links[0].alias) == (
        "myserver",
        "dingdong",
    )
