"""Run in a node: send datagrams at a steady rate; or switch between two rulesets again and again.

switch_over.py send ADDRESS RATE         until standard input ends
switch_over.py switch COUNT              between the rulesets in the file on standard input
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import subprocess
import sys
import time

import msgspec

from hostlab.firewall import kernel
from hostlab.firewall.here import run_here
from hostlab.firewall.ownership import own_part
from hostlab.firewall.ruleset import Ruleset
from hostlab.firewall.transaction import transaction

ACCEPTED, CLOSED = 7000, (7001, 7002, 7003)
PROGRAM = __file__
RATE = 10_000
WITNESS = """\
table inet witness {
	counter came { }
	counter passed { }
	counter closed { }
	chain first {
		type filter hook prerouting priority -500; policy accept;
		udp dport 7000 counter name came
	}
	chain last {
		type filter hook input priority 500; policy accept;
		udp dport 7000 counter name passed
		udp dport 7001-7003 counter name closed
	}
}
"""
"""Somebody else's table, that counts what comes, and what comes through."""


def sending(pid: int, address: str) -> subprocess.Popen[bytes]:
    """A stream that has begun, from the node of process `pid`, until its standard input ends."""
    namespaces = [f"--{name}=/proc/{pid}/ns/{name}" for name in ("user", "net")]
    command = (sys.executable, "-P", PROGRAM, "send", address, str(RATE))
    pipe = subprocess.PIPE
    sender = subprocess.Popen(("nsenter", *namespaces, *command), stdin=pipe, stdout=pipe)
    assert sender.stdout is not None
    assert sender.stdout.readline() == b"begun\n"
    return sender


def counted(listed: str) -> dict[str, int]:
    """The witness' counters by their names."""
    found = re.findall(r"counter (\w+) \{\s+packets (\d+)", listed)
    return {name: int(packets) for name, packets in found}


def send(address: str, rate: int) -> int:
    """Datagrams in step with the clock, every fourth to a port that is closed; how many."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        start = time.monotonic()
        sent = 0
        sys.stdout.write("begun\n")
        sys.stdout.flush()
        # The time of one packet; and the end of what is asked.
        while not select.select([sys.stdin], [], [], 1 / rate)[0]:
            while sent < (time.monotonic() - start) * rate:
                sent += 1
                port = ACCEPTED if sent % 4 else CLOSED[sent // 4 % len(CLOSED)]
                with contextlib.suppress(ConnectionRefusedError):
                    sender.sendto(b"x" * 8, (address, port))
    return sent


def switch(count: int) -> int:
    """Each of two rulesets in turn, by the transaction that `apply` makes."""
    rulesets = msgspec.json.decode(sys.stdin.buffer.read(), type=tuple[Ruleset, Ruleset])
    for number in range(count):
        last, wanted = rulesets[number % 2], rulesets[(number + 1) % 2]
        present = kernel.read(run_here)
        own = own_part(present, ours=(last,), wanted=wanted)
        for step in transaction(present, own, wanted):
            kernel.tool(run_here, step.argv, step.text)
    return count


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    done = send(rest[0], int(rest[1])) if what == "send" else switch(int(rest[0]))
    sys.stdout.write(f"{done}\n")
