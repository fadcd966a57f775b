"""Packed rtnetlink requests: carried out, and an error among them is heard."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from hostlab.linux import rtnetlink
from hostlab.linux.clone import CLONE_NEWNET, CLONE_NEWUSER
from hostlab.linux.libc import unshare
from hostlab.linux.netlink import BATCH_BYTES, Batch, Netlink, Request, batch, pack

pytestmark = pytest.mark.netns

BRIDGE = 2
ABSENT = 99
MAC = bytes((2, 0, 0, 0, 0, 1))


def in_own_namespace(work: Callable[[Netlink], None]) -> int:
    """0, or the errno of the OSError that `work` ends with, in a child with a bridge."""
    pid = os.fork()
    if pid == 0:
        status = 255
        try:
            unshare(CLONE_NEWUSER | CLONE_NEWNET)
            with Netlink() as netlink:
                bridge = rtnetlink.bridge_add("br", BRIDGE, mtu=1500, mac="02:00:00:00:00:02")
                netlink.request([bridge])
                work(netlink)
            status = 0
        except OSError as error:
            status = error.errno or 254
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def neighbour(index: int, host: int) -> bytes:
    return pack([rtnetlink.neighbour_add(index, bytes((10, 0, 0, host)), MAC)])


def test_all_are_carried_out_and_the_socket_goes_on_working() -> None:
    def work(netlink: Netlink) -> None:
        netlink.request_packed(b"".join(neighbour(BRIDGE, host) for host in range(1, 200)))
        for host in (1, 199):
            netlink.request([rtnetlink.neighbour_delete(BRIDGE, bytes((10, 0, 0, host)))])

    assert in_own_namespace(work) == 0


def test_an_error_in_the_middle_is_raised() -> None:
    def work(netlink: Netlink) -> None:
        netlink.request_packed(neighbour(BRIDGE, 1) + neighbour(ABSENT, 2) + neighbour(BRIDGE, 3))

    assert in_own_namespace(work) == errno.ENODEV


def ready(requests: list[Request], packed: bytes = b"") -> Batch:
    made = batch(requests, packed)
    assert made is not None
    return made


def never() -> list[Request]:
    raise AssertionError("only an error needs the requests again")


def test_a_batch_is_carried_out_and_the_socket_goes_on_working() -> None:
    def work(netlink: Netlink) -> None:
        up = rtnetlink.link_set(BRIDGE, up=True)
        netlink.request_batch(ready([up, up], neighbour(BRIDGE, 1)), never)
        netlink.request([rtnetlink.neighbour_delete(BRIDGE, bytes((10, 0, 0, 1)))])
        netlink.request_batch(ready([up]), never)

    assert in_own_namespace(work) == 0


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_request_of_a_batch_that_fails_is_named(place: int) -> None:
    def work(netlink: Netlink) -> None:
        requests = [rtnetlink.link_set(BRIDGE, up=True)] * 3
        requests[place] = rtnetlink.link_set(ABSENT, up=True)._replace(what="the absent one")
        with pytest.raises(OSError, match="the absent one") as caught:
            netlink.request_batch(ready(requests, neighbour(BRIDGE, 1)), lambda: requests)
        netlink.request([rtnetlink.neighbour_delete(BRIDGE, bytes((10, 0, 0, 1)))])
        raise caught.value

    assert in_own_namespace(work) == errno.ENODEV


def test_an_error_among_what_is_packed_behind_is_raised() -> None:
    def work(netlink: Netlink) -> None:
        requests = [rtnetlink.link_set(BRIDGE, up=True)]
        made = ready(requests, neighbour(BRIDGE, 1) + neighbour(ABSENT, 2))
        with pytest.raises(OSError, match="packed") as caught:
            netlink.request_batch(made, lambda: requests)
        raise caught.value

    assert in_own_namespace(work) == errno.ENODEV


def test_more_than_a_datagram_is_no_batch() -> None:
    request = rtnetlink.link_set(BRIDGE, up=True)
    assert batch([request] * (BATCH_BYTES // len(request.body))) is None
