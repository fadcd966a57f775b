"""What a script did beside rules: the difference of two states, and its ways back."""

from __future__ import annotations

import msgspec
import pytest

from hostlab.firewall.beside import Kind, Network, difference, only_there, sysctl_name

pytestmark = pytest.mark.unit

BARE = Network(
    sysctls={
        "net.ipv4.ip_forward": "0",
        "net.ipv4.conf.eth0.forwarding": "0",
        "net.ipv4.conf.all.accept_redirects": "1",
        "net.ipv4.conf.all.log_martians": "0",
    },
    links={"lo": (True, 65536, ""), "eth0": (True, 1500, "veth")},
    addresses=frozenset({("eth0", "10.0.0.1/24")}),
    routes=frozenset({("-4", "default", "via", "10.0.0.2", "dev", "eth0")}),
    rules=frozenset(),
)


def after(**changes: object) -> list[str]:
    operations = difference(BARE, msgspec.structs.replace(BARE, **changes))
    return [f"{each.describe()} | {' '.join(each.undo)}" for each in operations]


def test_nothing_is_nothing() -> None:
    assert difference(BARE, BARE) == ()


def test_forwarding_is_one_operation_and_not_what_follows_from_it() -> None:
    forwarding = {
        **BARE.sysctls,
        "net.ipv4.ip_forward": "1",
        "net.ipv4.conf.eth0.forwarding": "1",
        "net.ipv4.conf.all.accept_redirects": "0",
        "net.ipv4.conf.all.log_martians": "1",
        "net.ipv4.conf.new0.forwarding": "1",
    }
    assert after(sysctls=forwarding) == [
        "sysctl -qw net.ipv4.conf.all.log_martians=1 | sysctl -qw net.ipv4.conf.all.log_martians=0",
        "sysctl -qw net.ipv4.ip_forward=1 | sysctl -qw net.ipv4.ip_forward=0",
    ]


def test_links_and_what_goes_with_them() -> None:
    assert after(links={**BARE.links, "br0": (True, 1500, "bridge")}) == [
        "ip link add br0 type bridge | ip link delete br0",
        "ip link set dev br0 up | ip link set dev br0 down",
    ]
    # Its routes and addresses went with the link: they are no operations of their own.
    gone = {"lo": BARE.links["lo"]}
    assert after(links=gone, addresses=frozenset(), routes=frozenset()) == [
        "ip link delete eth0 | "
    ]


def test_addresses_and_routes() -> None:
    assert after(addresses=frozenset({("eth0", "10.0.0.9/24")}), routes=frozenset()) == [
        "ip address delete 10.0.0.1/24 dev eth0 | ip address add 10.0.0.1/24 dev eth0",
        "ip address add 10.0.0.9/24 dev eth0 | ip address delete 10.0.0.9/24 dev eth0",
        "ip -4 route delete default via 10.0.0.2 dev eth0"
        " | ip -4 route add default via 10.0.0.2 dev eth0",
    ]


def test_commands_for_the_real_machine() -> None:
    added = only_there(("ip", "-6", "addr", "add", "fd00::1/64", "dev", "lan"))
    assert added.kind is Kind.MAIN
    assert added.undo == ("ip", "-6", "addr", "delete", "fd00::1/64", "dev", "lan")
    assert only_there(("systemctl", "restart", "x")).undo == ()
    assert only_there(("ip", "link", "add", "x", "type", "dummy")).undo == ()


def test_a_sysctl_of_an_interface_with_a_dot_keeps_its_slashes() -> None:
    assert sysctl_name("net/ipv4/ip_forward") == "net.ipv4.ip_forward"
    assert sysctl_name("net/ipv4/conf/eth0.1/rp_filter") == "net/ipv4/conf/eth0.1/rp_filter"
