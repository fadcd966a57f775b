"""What a way through routers carries, beside the same built by hand (issue 7, "Speed").

A row of routers with static routes. One TCP connection at a time, from the first to the one that is
so many cables away: a stream as fast as it goes, then one byte to and fro. Both ends are this very
program; its sockets are made in the nodes' networks.
"""

from __future__ import annotations

import functools
import itertools
import os
import socket
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Final

from bench import drawings, ours
from bench.convergence import in_network
from bench.measure import Benchmark, Contender, Metrics, Target
from bench.peers.building import BY_HAND, BY_HAND_DIRECT, Builder, built
from hostlab.api import Lab

HOPS: Final = (1, 2, 4, 8)
STREAM_BYTES: Final = 1 << 30
TURNS: Final = 3000
CHUNK: Final = bytes(1 << 18)
AT_MOST: Final = round(1 / 0.95, 3)
"""0.95 of the throughput is so much more time."""
DEADLINE_S: Final = 120.0


def path_case(stream_bytes: int = STREAM_BYTES, turns: int = TURNS) -> Benchmark:
    """Through 1, 2, 4 and 8 cables."""

    def contender(who: str, builder: Builder | None) -> Contender:
        missing = ours.lab_missing if builder is None else builder.missing
        return Contender(who, functools.partial(_ways, builder, stream_bytes, turns), missing)

    return Benchmark(
        name="path",
        title="a TCP stream, and one byte to and fro, over 1, 2, 4 and 8 cables",
        contenders=(
            contender("hostlab", None),
            contender("by hand", BY_HAND),
            contender("by hand, no bridges", BY_HAND_DIRECT),
        ),
        targets=tuple(
            Target(f"{what}_{hops}_hops_{unit}", AT_MOST, "by hand")
            for what, unit in (("gb", "ms"), ("turn", "us"))
            for hops in HOPS
        ),
        # The rounds of one side differ by a third, and each takes seconds.
        rounds=15,
    )


def _ways(builder: Builder | None, stream_bytes: int, turns: int) -> Metrics:
    lab = drawings.chain(max(HOPS))
    ends = {hops: lab.nodes[hops].interfaces[0].addresses[0].partition("/")[0] for hops in HOPS}

    def measure(networks: Mapping[str, str]) -> Metrics:
        found: dict[str, float] = {}
        for hops, address in ends.items():
            stream_s, turn_s = _carried(
                networks["n0"], networks[f"n{hops}"], address, stream_bytes, turns
            )
            found[f"gb_{hops}_hops_ms"] = stream_s / stream_bytes * 1e12
            found[f"turn_{hops}_hops_us"] = turn_s * 1e6
        return found

    if builder is not None:
        with built(drawings.drawing(lab), builder) as network:
            return measure(network.networks)
    staged = Lab(lab)
    try:
        staged.up()
        holders = ours.Staged(lab.name).holders
        return measure({name: f"/proc/{pid}/ns/net" for name, pid in holders.items()})
    finally:
        staged.down()


def _carried(
    client: str, server: str, address: str, stream_bytes: int, turns: int
) -> tuple[float, float]:
    """Seconds of a stream, and of a turn (the median), between two networks by their files."""
    with in_network(server):
        listener = socket.create_server((address, 0))
    with in_network(client):
        link = socket.socket()
    with listener, link:
        child = os.fork()
        if child == 0:
            # Else the far end would never hear that this one has closed it.
            link.close()
            _answer(listener, stream_bytes)
        try:
            link.settimeout(DEADLINE_S)
            link.connect(listener.getsockname())
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            begin = time.perf_counter()
            for _ in range(stream_bytes // len(CHUNK)):
                link.sendall(CHUNK)
            if link.recv(1) != b"d":
                raise RuntimeError(f"the stream to {address} did not arrive")
            streamed = time.perf_counter()
            took = []
            for _ in range(turns):
                link.send(b"t")
                link.recv(1)
                took.append(time.perf_counter())
        finally:
            link.close()
            os.waitpid(child, 0)
    turn_s = statistics.median(b - a for a, b in itertools.pairwise((streamed, *took)))
    return streamed - begin, turn_s


def _answer(listener: socket.socket, stream_bytes: int) -> None:
    """A child's whole life: take the stream, then send back each byte."""
    try:
        listener.settimeout(DEADLINE_S)
        link, _ = listener.accept()
        link.settimeout(DEADLINE_S)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        buffer, left = bytearray(len(CHUNK)), stream_bytes // len(CHUNK) * len(CHUNK)
        while left and (taken := link.recv_into(buffer)):
            left -= taken
        link.send(b"d")
        while link.recv(1):
            link.send(b"t")
    finally:
        os._exit(0)


PATH_CASES: Mapping[str, Callable[[], Benchmark]] = {"path": path_case}
