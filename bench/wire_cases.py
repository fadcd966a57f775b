"""The user-space wire, beside what it was asked for (issue 7, "Speed").

Frames go from one node to another at an even pace, each with the time at which it was sent in it;
the kernel stamps their arrival. The time between is the cable's and the sender's, whose share is
told by the same stream over a cable that nothing is done to.
"""

from __future__ import annotations

import math
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Final

from bench.measure import Benchmark, Contender, Metrics, Target
from hostlab import spec
from hostlab.lab import driver
from hostlab.lab.links.fate import Fate
from hostlab.linux.frame_ring import FrameSocket
from hostlab.linux.netns import Home
from hostlab.spec.impairments import Impairment
from hostlab.sync import Lab

FRAMES: Final = 100_000
PER_S: Final = 5000
DELAY_S: Final = 0.02
LOSS: Final = 0.01
SEED: Final = 7
NEAR_MS: Final = 0.5
KIND: Final = 0x88B5
"""An EtherType for experiments."""
RING_BYTES: Final = 1 << 25
"""Room for three seconds of the stream: whoever measures may be late."""
SILENT_S: Final = 10.0
"""What has not come by then is lost."""
BYTES: Final = 128
_HEAD: Final = b"\xff" * 6 + bytes.fromhex("020000009901") + struct.pack("!H", KIND)
_TIME: Final = struct.Struct("=Q")

LAB: Final = """
name: bench-wire-{pid}
segments: {{lan: {{subnets: [10.9.0.0/24]}}}}
roles: {{quiet: {{sysctls: {{net.ipv6.conf.all.disable_ipv6: 1}}}}}}
nodes:
  a: {{role: quiet, interfaces: {{eth0: {{segment: lan, impair: {{{impair}}}}}}}}}
  b: {{role: quiet}}
"""


def wire_case(frames: int = FRAMES) -> Benchmark:
    """An even stream of frames over a cable with a delay, and over one with a loss."""
    return Benchmark(
        name="wire",
        title=f"{frames:,} frames at {PER_S:,} a second over a cable of {DELAY_S * 1000:g} ms",
        contenders=(
            Contender("hostlab", lambda: {**_delayed(frames), **_lossy(frames // 5)}),
            Contender("the cable alone", lambda: _perfect(frames)),
        ),
        targets=(
            Target("within_half_ms_share", 0.95, at_least=True),
            Target("p99_ms", 3.0),
            Target("loss_sigmas", 3.3),
            Target("cpu_share", 0.5),
        ),
        rounds=1,
    )


def _delayed(frames: int) -> Metrics:
    with _lab(f"out: {{delay: {DELAY_S * 1000:g}ms}}") as lab:
        carrying = _links(lab)["wire"]
        begun, ran = time.monotonic(), _cpu_s(carrying)
        late = _stream(lab, frames)
        share = (_cpu_s(carrying) - ran) / (time.monotonic() - begun)
    return {**_lateness([one - DELAY_S * 1000 for one in late]), "cpu_share": share}


def _perfect(frames: int) -> Metrics:
    with _lab("") as lab:
        return _lateness(_stream(lab, frames))


def _lossy(frames: int) -> Metrics:
    """How far a loss is from what was asked, in its binomial spread."""
    fate = Fate(Impairment(loss=LOSS), f"{SEED} a:eth0 out")
    for _ in range(frames):
        if fate.arrive(0, BYTES):
            fate.leave()
    with _lab(f"out: {{loss: {LOSS * 100:g}%, seed: {SEED}}}") as lab:
        arrived = len(_stream(lab, frames, frames - fate.lost))
    spread = math.sqrt(frames * LOSS * (1 - LOSS))
    return {"loss_sigmas": abs(frames - arrived - frames * LOSS) / spread}


def _lateness(late_ms: list[float]) -> dict[str, float]:
    ordered = sorted(abs(one) for one in late_ms)
    return {
        "within_half_ms_share": sum(one <= NEAR_MS for one in ordered) / len(ordered),
        "median_ms": ordered[len(ordered) // 2],
        "p99_ms": ordered[int(len(ordered) * 0.99)],
        "worst_ms": ordered[-1],
        "frames": len(ordered),
    }


@contextmanager
def _lab(impair: str) -> Iterator[Lab]:
    text = LAB.format(pid=os.getpid(), impair=impair)
    with Lab(spec.load(text, file="bench.yaml")) as lab:
        yield lab


def _links(lab: Lab) -> Mapping[str, int]:
    control = driver.running(lab.name)
    try:
        return dict(control.call("links"))
    finally:
        control.close()


def _cpu_s(pid: int) -> float:
    """For how long a process has run: schedstat's first number, nanoseconds."""
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0]) / 1e9


def _stream(lab: Lab, frames: int, expected: int | None = None) -> list[float]:
    """Milliseconds from sending to arrival of every frame that arrives, of all unless said."""
    with ExitStack() as stack:
        home = Home()
        stack.callback(home.close)
        taking, sending = (
            stack.enter_context(_end(home, lab[name].pid, ring)) for name, ring in _ENDS
        )
        child = os.fork()
        if child == 0:
            try:
                _send(sending, frames)
            finally:
                os._exit(0)
        late = _take(taking, frames if expected is None else expected)
        os.waitpid(child, 0)
    return late


_ENDS: Final = (("b", RING_BYTES), ("a", 1 << 18))


@contextmanager
def _end(home: Home, pid: int, ring_bytes: int) -> Iterator[FrameSocket]:
    with open(f"/proc/{pid}/ns/net") as namespace, home.visit(namespace.fileno()):
        end = FrameSocket(socket.if_nametoindex("eth0"), 1500, ring_bytes=ring_bytes)
    try:
        yield end
    finally:
        end.close()


def _send(end: FrameSocket, frames: int) -> None:
    begun, rest = time.monotonic_ns(), b"\x55" * (BYTES - len(_HEAD) - _TIME.size)
    for number in range(frames):
        wait = begun + number * 1_000_000_000 // PER_S - time.monotonic_ns()
        if wait > 0:
            # As long as there is to wait, not for a fixed time: the pace of the stream is measured.
            select.select([], [], [], wait / 1e9)
        end.socket.send(_HEAD + _TIME.pack(time.time_ns()) + rest)


def _take(end: FrameSocket, frames: int) -> list[float]:
    late: list[float] = []
    poll = select.poll()
    poll.register(end.socket, select.POLLIN)
    while len(late) < frames and poll.poll(SILENT_S * 1000):
        for came, data in end.frames():
            if data.startswith(_HEAD):
                late.append((came - _TIME.unpack_from(data, len(_HEAD))[0]) / 1e6)
    return late


WIRE_CASES: dict[str, Callable[[], Benchmark]] = {"wire": wire_case}
