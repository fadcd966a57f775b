"""The probe's own table in the kernel: chains before and after all others that see our packets.

The first marks what we send, and nothing else, for nft's trace: a frame by its source address, a
packet of the host itself by its mark, which it takes off again. The last ones see what is left, and
end it: so nothing is delivered, sent or answered, and conntrack, which confirms a connection later
still, forgets what it saw. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

TABLE: Final = "hostlab_trace"
FAMILY: Final = "inet"
FRAME_PREFIX: Final = bytes.fromhex("02686c")
"""Begins the Ethernet source of our frames; three bytes of the packet's number follow."""
SENTINEL: Final = bytes.fromhex("02686d")
"""The same of the frame that is sent behind a batch, with the batch's number."""
MARK: Final = 0x68000000
MARK_MASK: Final = 0xFF000000
NUMBERS: Final = 1 << 24
"""How many packets can be told apart in a batch."""
BEGIN: Final = "begin"
"""Of the names of chains that see a packet first."""
END: Final = "end"
_FIRST, _LAST = -(1 << 31), (1 << 31) - 2
"""The last is before conntrack's confirmation, at INT_MAX (NF_IP_PRI_CONNTRACK_CONFIRM)."""
_OURS: Final = f"@ll,48,24 0x{FRAME_PREFIX.hex()} meta nftrace set 1 accept"
_MARKED: Final = f"meta mark & 0x{MARK_MASK:08x} == 0x{MARK:08x}"


def script(
    *, ingress: Sequence[str] = (), egress: Sequence[str] = (), is_legacy: bool = False
) -> str:
    """What `nft -f` is to be given.

    `ingress` and `egress` are interfaces with rules there, before and after all others; what
    leaves by one of `egress` conntrack has confirmed, so it must be told to forget it. With
    `is_legacy` every hook is watched, for the rules of legacy iptables in it end a packet without
    a word.
    """
    chains = [
        _chain(
            f"prerouting_{BEGIN}",
            "prerouting",
            _FIRST,
            f"@ll,48,24 0x{SENTINEL.hex()} meta nftrace set 1 drop",
            _OURS,
        ),
        _chain(
            f"output_{BEGIN}",
            "output",
            _FIRST,
            f"{_MARKED} meta nftrace set 1",
            f"{_MARKED} meta mark set 0 accept",
        ),
        _chain(f"input_{END}", "input", _LAST, "drop"),
        _chain(
            f"postrouting_{END}",
            "postrouting",
            _LAST,
            *(f'oifname "{name}" accept' for name in ("lo", *egress)),
            "drop",
        ),
    ]
    if is_legacy:
        chains += [
            _chain(f"{hook}_{BEGIN}", hook, _FIRST) for hook in ("input", "forward", "postrouting")
        ]
        chains += [
            _chain(f"{hook}_{END}", hook, _LAST) for hook in ("prerouting", "forward", "output")
        ]
    text = f"{removal()}table {FAMILY} {TABLE} {{\n" + "".join(chains) + "}\n"
    if not ingress and not egress:
        return text
    text += f"table netdev {TABLE}\ndelete table netdev {TABLE}\ntable netdev {TABLE} {{\n"
    for hook, devices, name, priority, rule in (
        ("ingress", ingress, BEGIN, _FIRST, _OURS),
        ("egress", egress, END, _LAST, "drop"),
    ):
        if devices:
            listed = ", ".join(f'"{each}"' for each in devices)
            text += _chain(f"{hook}_{name}", f"{hook} devices = {{ {listed} }}", priority, rule)
    return text + "}\n"


def removal(*, netdev: bool = False) -> str:
    """What takes the table away again, whether it is there or not."""
    families = (FAMILY, "netdev") if netdev else (FAMILY,)
    return "".join(f"table {each} {TABLE}\ndelete table {each} {TABLE}\n" for each in families)


def _chain(name: str, hook: str, priority: int, *rules: str) -> str:
    body = "".join(f"{rule}\n" for rule in rules)
    head = f"type filter hook {hook} priority {priority}; policy accept;"
    return f"chain {name} {{\n{head}\n{body}}}\n"
