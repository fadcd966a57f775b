"""rtnetlink against the kernel: what is asked for is there, what is refused says why."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest

from hostlab.lab import remains
from hostlab.lab.paths import LabDirectory
from hostlab.linux import rtnetlink as rt
from hostlab.linux.clone import CLONE_NEWNET, CLONE_NEWUSER, clone3
from hostlab.linux.libc import setns, unshare
from hostlab.linux.netlink import Netlink
from tests.netns.lab.lab_site import wait_until

pytestmark = pytest.mark.netns
MAC = "02:00:00:00:00:"


def in_namespaces(work: Callable[[Netlink, int], None]) -> None:
    """Run in a new network namespace, with a descriptor of a second one; a failure is told."""
    reader, writer = os.pipe()
    pid, pidfd = clone3(CLONE_NEWUSER | CLONE_NEWNET)
    if pid == 0:
        try:
            other = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            unshare(CLONE_NEWNET)
            with Netlink() as netlink:
                work(netlink, other)
        except BaseException as error:
            os.write(writer, repr(error).encode()[:2000])
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as told:
        text = told.read()
    os.close(pidfd)
    os.waitpid(pid, 0)
    if "Operation not permitted" in text and "clone3" in text:
        pytest.skip("no user namespace here")
    assert text == ""


def test_bridge_veth_addresses_routes_and_neighbours() -> None:
    def work(netlink: Netlink, other: int) -> None:
        end = rt.VethEnd("far0", 5, mac=MAC + "05", namespace_fd=other)
        netlink.request(
            [
                rt.bridge_add("br7", 7, mtu=1400, mac=MAC + "07"),
                rt.altname_add(7, "a segment with a long name"),
                rt.veth_add(rt.VethEnd("p8", 8, master=7, up=True), end, mtu=1400),
            ]
        )
        # With its other end down the bridge has no carrier, and forgets its neighbours again.
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        setns(other, CLONE_NEWNET)
        with Netlink() as far:
            far.request([rt.link_set(5, up=True)])
        setns(home, CLONE_NEWNET)
        netlink.request(
            [
                rt.link_set(7, up=True),
                rt.address_add(7, "10.1.0.1/24"),
                rt.address_add(7, "fd01::1/64"),
                rt.route_add("10.2.0.0/16", via="10.1.0.9", metric=5),
                rt.route_add("fd02::/64", via="fd01::9"),
            ]
        )
        # The kernel passes on in its own time that the port has a carrier.
        wait_until(lambda: "LOWER_UP" in run("ip link show br7"), "the bridge has a carrier")
        netlink.request(
            [rt.neighbour_add(7, bytes([10, 1, 0, 9]), rt.mac_bytes(MAC + "09"))],
        )
        links = {link.name: link for link in rt.links(netlink)}
        assert links["br7"].altnames == ("a segment with a long name",)
        assert (links["br7"].kind, links["br7"].mtu, links["br7"].mac) == (
            "bridge",
            1400,
            MAC + "07",
        )
        assert (links["p8"].kind, links["p8"].master, links["p8"].peer) == ("veth", 7, 5)
        found = rt.addresses(netlink)
        assert {(7, "10.1.0.1/24"), (7, "fd01::1/64")} <= set(found)
        shown = run("ip route; ip -6 route; ip neigh")
        for text in ("10.2.0.0/16 via 10.1.0.9", "fd02::/64 via fd01::9", MAC + "09"):
            assert text in shown
        netlink.request(
            [
                rt.route_delete("10.2.0.0/16", via="10.1.0.9", metric=5),
                rt.neighbour_delete(7, bytes([10, 1, 0, 9])),
                rt.address_delete(7, "fd01::1/64"),
                rt.link_delete(8),
            ]
        )
        assert "10.2.0.0" not in run("ip route")
        assert MAC + "09" not in run("ip neigh")
        assert "p8" not in {link.name for link in rt.links(netlink)}

    in_namespaces(work)


def test_a_link_is_deleted_by_its_other_name_whoever_has_its_number() -> None:
    """As the links of a lab that is cleared away: its kernel may have been quicker."""

    def work(netlink: Netlink, other: int) -> None:
        mark = LabDirectory("gone", "/nowhere").mark
        netlink.request(
            [
                rt.veth_add(rt.VethEnd("hl0", 7), rt.VethEnd("m0", 8), mtu=1500),
                rt.altname_add(7, f"hostlab:{mark}:lan"),
            ]
        )
        look = remains.marked_links

        def looked(wanted: str | None = None) -> dict[int, str]:
            found = look(wanted)
            netlink.request([rt.link_delete(7)])
            netlink.request([rt.veth_add(rt.VethEnd("hl0", 7), rt.VethEnd("m0", 8), mtu=1500)])
            netlink.request([rt.altname_add(7, "hostlab:other:lan")])
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(remains, "marked_links", looked)
            remains.clear(LabDirectory("gone", "/nowhere"))
        assert look() == {7: "hostlab:other:lan"}
        netlink.request([rt.link_delete_named("hostlab:other:lan")])
        assert look() == {}
        with pytest.raises(OSError, match="delete link hostlab:other:lan"):
            netlink.request([rt.link_delete_named("hostlab:other:lan")])

    in_namespaces(work)


def run(command: str) -> str:
    return subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout


def test_a_batch_names_the_first_request_that_failed_and_tries_the_rest() -> None:
    def work(netlink: Netlink, other: int) -> None:
        requests = [
            rt.link_set(1, up=True),
            rt.address_add(99, "10.9.9.9/24"),
            rt.address_add(1, "10.1.1.1/32"),
            rt.route_add("10.3.0.0/16", via="192.0.2.1"),
        ]
        with pytest.raises(OSError, match=r"add address 10\.9\.9\.9/24"):
            netlink.request(requests)
        assert (1, "10.1.1.1/32") in rt.addresses(netlink)
        assert "lo" in {link.name for link in rt.links(netlink)}

    in_namespaces(work)


def test_a_batch_of_thousands_is_split() -> None:
    def work(netlink: Netlink, other: int) -> None:
        many = [rt.address_add(1, f"10.{n >> 8}.{n & 255}.1/32") for n in range(3000)]
        netlink.request([rt.link_set(1, up=True), *many])
        assert len(rt.addresses(netlink)) == 3002

    in_namespaces(work)
