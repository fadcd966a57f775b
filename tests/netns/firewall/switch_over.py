"""Run in a node: send numbered datagrams at a steady rate, or count them.

switch_over.py send ADDRESS RATE SECONDS
switch_over.py count SECONDS_OF_SILENCE
"""

from __future__ import annotations

import select
import socket
import sys
import time

PORT = 7000


def send(address: str, rate: int, duration_s: float) -> int:
    """Datagrams in step with the clock; how many."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect((address, PORT))
        start = time.monotonic()
        sent = 0
        while (now := time.monotonic() - start) < duration_s:
            while sent < now * rate:
                sender.send(sent.to_bytes(8))
                sent += 1
            # A tenth of a millisecond is a packet's time; there is nothing else to wait for.
            select.select([], [], [], 0.0001)
    return sent


def count(silence_s: float) -> int:
    """How many different ones arrive until nothing does for a while."""
    seen = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUFFORCE, 64 << 20)
        receiver.bind(("", PORT))
        sys.stdout.write("bound\n")
        sys.stdout.flush()
        limit_s = 60.0
        while select.select([receiver], [], [], limit_s)[0]:
            seen.add(receiver.recv(8))
            limit_s = silence_s
    return len(seen)


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    found = send(rest[0], int(rest[1]), float(rest[2])) if what == "send" else count(float(rest[0]))
    sys.stdout.write(f"{found}\n")
