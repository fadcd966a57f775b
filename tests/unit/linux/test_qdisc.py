"""Messages of qdiscs, byte for byte those of tc(8) (iproute2 6.1, by `strace -e sendmsg`)."""

from __future__ import annotations

import pytest

from hostlab.linux.netlink import NLM_F_CREATE, NLM_F_REPLACE
from hostlab.linux.qdisc import OURS, RTM_NEWQDISC, TC_H_ROOT, netem_replace, tbf_replace
from hostlab.spec.impairments import Impairment

pytestmark = pytest.mark.unit

LINK = 7
TCMSG = (
    b"\0\0\0\0"
    + LINK.to_bytes(4, "little")
    + OURS.to_bytes(4, "little")
    + TC_H_ROOT.to_bytes(4, "little")
    + bytes(4)
)
NETEM = TCMSG + b"\x0a\0\x01\0netem\0\0\0"

# What `tc qdisc replace dev v0 root handle 6c68: netem …` sent after the kind.
BY_TC = {
    "delay 20ms 2ms": (
        Impairment(delay_s=0.02, jitter_s=0.002),
        "1c000200 b4c40400 e8030000 00000000 00000000 00000000 127a0000",
    ),
    "loss 1%": (
        Impairment(loss=0.01),
        "1c000200 00000000 e8030000 295c8f02 00000000 00000000 00000000",
    ),
    "delay 20ms 2ms loss 1% duplicate 2% reorder 25% corrupt 3% rate 10mbit limit 500": (
        Impairment(
            delay_s=0.02,
            jitter_s=0.002,
            loss=0.01,
            duplicate=0.02,
            reorder=0.25,
            corrupt=0.03,
            rate=10_000_000,
            queue=500,
        ),
        "48000200 b4c40400 f4010000 295c8f02 01000000 52b81e05 127a0000"
        "0c000300 00000040 00000000 0c000400 7b14ae07 00000000"
        "14000600 d0121300 00000000 00000000 00000000",
    ),
    "rate 40gbit": (
        Impairment(rate=40_000_000_000),
        "3c000200 00000000 e8030000 00000000 00000000 00000000 00000000"
        "0c000800 00f2052a 01000000 14000600 ffffffff 00000000 00000000 00000000",
    ),
    # A loss of 1/81 in bursts of 5: 0.25% begin one, 20% end it.
    "loss gemodel 0.25% 20%": (
        Impairment(loss=1 / 81, burst=5),
        "34000200 00000000 e8030000 00000000 00000000 00000000 00000000"
        "18000580 14000200 0ad7a300 33333333 00000000 00000000",
    ),
}


@pytest.mark.parametrize("words", BY_TC)
def test_netem_is_told_what_tc_tells_it(words: str) -> None:
    impairment, options = BY_TC[words]
    request = netem_replace(LINK, impairment)
    assert request.type == RTM_NEWQDISC
    assert request.flags == NLM_F_CREATE | NLM_F_REPLACE
    assert request.body == NETEM + bytes.fromhex(options)


def test_all_of_it_can_be_lost_in_bursts() -> None:
    body = netem_replace(LINK, Impairment(loss=1.0, burst=5)).body
    assert body.endswith(bytes.fromhex("14000200 ffffffff 00000000 00000000 00000000"))


@pytest.mark.parametrize(
    ("rate", "queue", "said"),
    [
        # As of `tbf rate 10mbit burst 5000 limit 30000`, without its table of old kernels.
        (10_000_000, 20, "d0121300" + "00" * 12 + "20760000 24f40000 00000000 08000600 88130000"),
        (40_000_000_000, 1, "ffffffff" + "00" * 12 + "e8050000 24f40000 00000000"),
    ],
)
def test_tbf_is_told_its_rate_bucket_and_queue(rate: int, queue: int, said: str) -> None:
    body = tbf_replace(LINK, rate=rate, queue=queue, mtu=1494).body
    assert body.startswith(TCMSG + b"\x08\0\x01\0tbf\0")
    assert b"\x28\0\x01\0" + bytes.fromhex("0001 0000 ffff 0000") + bytes.fromhex(said) in body
    fast = bytes.fromhex("0c000400 00f2052a 01000000")
    assert (fast in body) is (rate > 2**32 * 8)
