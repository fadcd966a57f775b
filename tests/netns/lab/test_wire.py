"""The wire itself, told in an order that only a busy machine would choose."""

from __future__ import annotations

import select
import socket

import pytest

from hostlab.lab.links import messages
from hostlab.lab.links.messages import Put
from hostlab.lab.links.wire import Wire
from hostlab.linux import rtnetlink
from hostlab.linux.clone import CLONE_NEWNET
from hostlab.linux.netlink import Netlink
from hostlab.linux.rtnetlink import VethEnd
from hostlab.observe.finding import tried
from hostlab.spec.impairments import Impairment

pytestmark = pytest.mark.netns

MTU = 1500
NODE, PORT, INNER, LAN = 10, 11, 20, 21


def test_what_came_before_a_change_has_the_fate_of_before() -> None:
    """Also when the command is heard first."""

    def work() -> list[int]:
        with Netlink() as netlink:
            for one, other in ((NODE, PORT), (INNER, LAN)):
                ends = VethEnd(f"v{one}", one), VethEnd(f"v{other}", other)
                netlink.request([rtnetlink.veth_add(*ends, mtu=MTU)])
            ups = [rtnetlink.link_set(index, up=True) for index in (NODE, PORT, INNER, LAN)]
            netlink.request(ups)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        wire = Wire(theirs)

        def told(loss: float) -> None:
            sending = Impairment(loss=loss)
            put = Put(
                name="a:eth0", port=PORT, inner=INNER, mtu=MTU,
                sending=sending, receiving=Impairment(),
            )  # fmt: skip
            ours.send(messages.encode(put))
            wire._obey()
            assert ours.recv(messages.MAX_PACKET_BYTES) == messages.encode(messages.Answer())

        told(1.0)
        way = wire._cables["a:eth0"].sending
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as node:
            node.bind((f"v{NODE}", 0))
            # Until the carrier is told of, what is sent is lost.
            while not select.select([way.source.socket], [], [], 0.05)[0]:
                node.send(b"\xff" * 60)
        told(0.0)
        # What the kernel sends by itself comes the other way.
        return [way.fate.lost > 0, sum(under_way is way for _, _, under_way, _ in wire._heap)]

    outcome = tried(work, flags=CLONE_NEWNET, is_rooted=True)
    assert outcome.is_ok, outcome.error
    assert outcome.value == [True, 0]
