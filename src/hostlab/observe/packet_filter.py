"""Filter expressions in tcpdump's language, compiled by tcpdump."""

from __future__ import annotations

import shutil
import struct
import subprocess

from hostlab.errors import DecodeError, Unsupported, UsageError
from hostlab.observe.pcapng import MAX_SNAPLEN

_COMPILE_LIMIT_S = 10
_DLT = {1: "EN10MB", 772: "EN10MB", 65534: "RAW", 778: "RAW", 768: "RAW", 769: "RAW"}


def compile_filter(expression: str, *, arphrd: int = 1, snaplen: int = MAX_SNAPLEN) -> bytes:
    """The classic BPF program of an expression (pcap-filter(7)) for `linux.packet`.

    `Unsupported` when tcpdump is not here, `UsageError` for an expression that it refuses. The
    keyword `vlan` finds nothing: the kernel takes tags off before the filter runs, and tcpdump
    knows that only of an interface that it opened itself.
    """
    tcpdump = shutil.which("tcpdump", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if tcpdump is None:
        raise Unsupported(
            "tcpdump", "a filter expression is compiled by tcpdump", hint="apt-get install tcpdump"
        )
    if arphrd not in _DLT:
        raise Unsupported("link-type", f"no filter can be compiled for link type {arphrd}")
    argv = [tcpdump, "-ddd", "-y", _DLT[arphrd], "-s", str(snaplen), "--", expression]
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=_COMPILE_LIMIT_S
    )
    if done.returncode:
        message = done.stderr.strip().splitlines()[-1:] or ["tcpdump refuses it"]
        raise UsageError("filter", f"{expression!r}: {message[0].removeprefix('tcpdump: ')}")
    return decode_program(done.stdout)


def decode_program(text: str) -> bytes:
    """`tcpdump -ddd`'s numbers as `struct sock_filter`; `DecodeError` for anything else."""
    lines = text.split("\n")
    try:
        count = int(lines[0])
        numbers = [[int(number) for number in line.split()] for line in lines[1 : count + 1]]
        if len(numbers) != count or not count:
            raise ValueError(f"{len(numbers)} of {count} instructions")
        return b"".join(struct.pack("=HBBI", *four) for four in numbers)
    except (ValueError, struct.error) as error:
        raise DecodeError("filter", f"no program from tcpdump: {error}") from None
