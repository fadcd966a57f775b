"""Impaired cables in a real kernel: each method, changed in place, and what dies meanwhile."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hostlab.errors import Failed, Problem, UsageError
from hostlab.lab import driver
from hostlab.lab.links.fate import Fate
from hostlab.linux import ethtool
from hostlab.linux.entering import from_inside
from hostlab.linux.running import run_inside
from hostlab.spec.impairments import Impairment
from hostlab.sync import Lab, Node
from tests.netns.lab.frames import End, end_of, frame, knock
from tests.netns.lab.lab_site import Site, described, site, wait_until
from tests.netns.lab.wall_site import Site as UserSite

pytestmark = pytest.mark.netns

HOSTLAB = str(Path(sys.executable).with_name("hostlab"))
LAB = """
segments: {lan: {subnets: [10.9.0.0/24]%s}}
roles: {quiet: {sysctls: {net.ipv6.conf.all.disable_ipv6: 1}}}
nodes:
  a: {role: quiet, interfaces: {eth0: {segment: lan%s}}}
  b: {role: quiet}
  c: {role: quiet}
"""
"""Without IPv6 no node says anything unasked, so each frame on a cable is a test's own."""
REPORTS = 2
"""A bridge that snoops tells twice, within seconds, which group it is in itself (IGMPv3)."""
PERFECT = LAB % ("", "")
COUNT = 300
"""Frames of one test: fewer than a ring has room for, so that none is missed on a slow machine."""
EVERYTHING: dict[str, float] = {
    "delay": 0.05,
    "jitter": 0.02,
    "loss": 0.2,
    "burst": 3.0,
    "duplicate": 0.1,
    "reorder": 0.1,
    "corrupt": 0.1,
    "seed": 7,
}
SEND_MUCH = """
import hashlib, random, socket, sys
link = socket.create_connection((sys.argv[1], 7000), 50)
data = random.Random(1).randbytes(1 << 19)
link.sendall(data)
link.shutdown(socket.SHUT_WR)
assert link.recv(64) == hashlib.sha256(data).digest()
"""
TAKE_MUCH = """
import hashlib, socket
server = socket.create_server(("", 7000))
print("ready", flush=True)
link, _ = server.accept()
digest = hashlib.sha256()
while data := link.recv(1 << 16):
    digest.update(data)
link.sendall(digest.digest())
"""

PLAIN = """
segments: {lan: {subnets: [10.9.0.0/24]}}
nodes:
  a: lan
  slow: {interfaces: {eth0: {segment: lan, impair: {delay: 5ms}}}}
  deaf: {interfaces: {eth0: {segment: lan, impair: {in: {loss: 100%}}}}}
  dumb: {interfaces: {eth0: {segment: lan, impair: {out: {loss: 100%}}}}}
"""
ECHO = """
import socket, sys
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
link.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR: nobody listens, and the host says so
link.connect((sys.argv[1], 9))
link.settimeout(0.5)
# A port whose carrier is new may not be open yet: what is to get through is sent again.
for _ in range(100 if sys.argv[1] == "slow" else 1):
    try:
        link.send(b"?")
        link.recv(1)
    except ConnectionRefusedError:
        print("through")
        break
    except TimeoutError:
        continue
else:
    print("lost")
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Lab]]:
    """A lab for all tests that leave it as it was."""
    with (
        pytest.MonkeyPatch.context() as patch,
        site(tmp_path_factory.mktemp("links"), patch, kind="links") as found,
    ):
        lab = found.up(PERFECT)
        for name in "abc":
            # Their supervisors stay from the first command on.
            lab[name].succeed("true")
        reported = "cat /sys/class/net/eth0/statistics/rx_packets"
        wait_until(lambda: int(lab["c"].succeed(reported)) >= REPORTS, "the bridge's reports")
        open_ports(lab)
        yield found, lab


@pytest.fixture
def lab(shared: tuple[Site, Lab]) -> Iterator[Lab]:
    """The shared lab; whatever a test did to its cables is taken back."""
    yield shared[1]
    shared[1].up()
    assert links(shared[1]) == {}


def open_ports(lab: Lab) -> None:
    """Every node hears every other one."""
    with end_of(lab["a"]) as a, end_of(lab["b"]) as b, end_of(lab["c"]) as c:
        for here, there in ((a, b), (b, c), (c, a)):
            knock(here, there)


def ask(lab: Lab, operation: str, **message: Any) -> dict[str, Any]:
    control = driver.running(lab.name)
    try:
        return dict(control.call(operation, **message))
    finally:
        control.close()


def link(lab: Lab, node: str = "a", **said: Any) -> None:
    """Change a cable."""
    lab[node].impair("eth0", **said)


def links(lab: Lab) -> dict[str, dict[str, Any]]:
    """Node -> what is told of its cable."""
    return {row["node"]: row for row in ask(lab, "links")["links"]}


def wire(lab: Lab) -> int:
    pid = ask(lab, "links")["wire"]
    assert isinstance(pid, int)
    return pid


def wait_ended(pid: int) -> None:
    """Until this process is no more."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    ended = poll.poll(60_000)
    os.close(fd)
    assert ended, f"process {pid} does not end"


def kill(pid: int) -> None:
    """End a process by force, and wait for its end."""
    os.kill(pid, signal.SIGKILL)
    wait_ended(pid)


def fated(one: dict[str, Any], way: str, frames: list[bytes]) -> list[bytes]:
    """What the pure machine lets through of frames that are sent at once, in any order."""
    values = {"delay_s": one.get("delay", 0), "jitter_s": one.get("jitter", 0)}
    values |= {key: value for key, value in one.items() if key not in ("delay", "jitter")}
    fate = Fate(Impairment(**values), f"{one['seed']} a:eth0 {way}")
    found = []
    for data in frames:
        for _, flip in fate.arrive(0, len(data)):
            number = int.from_bytes(data, "little")
            if flip is not None:
                number ^= 1 << flip
            found.append(number.to_bytes(len(data), "little"))
    return found


@pytest.mark.parametrize(("way", "field"), [("out", "sending"), ("in", "receiving")])
def test_the_wire_does_to_each_frame_what_its_seed_says(lab: Lab, way: str, field: str) -> None:
    ways: dict[str, Any] = {field: EVERYTHING}
    link(lab, **ways)
    sent = [frame(number) for number in range(COUNT)]
    expected = fated(EVERYTHING, way, sent)
    source, target = ("a", "b") if way == "out" else ("b", "a")
    with end_of(lab[target]) as there, end_of(lab[source]) as here:
        here.send(*sent)
        got = there.take(len(expected))
        assert sorted(got) == sorted(expected)
        # Not in their order: some were held longer than others.
        assert got != expected
    row = links(lab)["a"]
    counts = row["passed"][way]
    assert row["method"] == "user-space wire"
    assert counts["carried"] == len(expected)
    assert all(counts[name] for name in ("lost", "duplicated", "reordered", "corrupted"))
    assert not counts.get("missed", 0)


def test_no_frame_is_early_and_the_other_way_is_perfect(lab: Lab) -> None:
    link(lab, sending={"delay": 0.2})
    with end_of(lab["b"]) as there, end_of(lab["a"]) as here:
        sent_ns = time.time_ns()
        here.send(frame(1))
        there.send(frame(2))
        assert here.take(1) == [frame(2)]
        assert there.take(1) == [frame(1)]
        ((came_ns, _),) = there.got
    # However busy the machine is; its clock may have been slewed a little.
    assert came_ns - sent_ns > 0.19e9


@pytest.mark.parametrize(("source", "target"), [("a", "b"), ("b", "a")])
def test_a_tagged_frame_keeps_its_tag(lab: Lab, source: str, target: str) -> None:
    link(lab, sending={"delay": 0.001}, receiving={"delay": 0.001})
    with end_of(lab[target]) as there, end_of(lab[source]) as here:
        here.send(frame(1, tag=0x6123), frame(2))
        assert there.take(2) == [frame(1, tag=0x6123), frame(2)]


@pytest.mark.parametrize("server", ["a", "b"])
def test_tcp_gets_through_whole(lab: Lab, server: str) -> None:
    client = "b" if server == "a" else "a"
    link(lab, sending={"delay": 0.0005}, receiving={"rate": 200_000_000})
    command = [HOSTLAB, "exec", f"{lab.name}/{server}", "--", "python3", "-c", TAKE_MUCH]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as taker:
        assert taker.stdout is not None
        assert taker.stdout.readline() == "ready\n"
        done = lab[client].execute(["python3", "-c", SEND_MUCH, server], timeout_s=60.0)
        assert (done.status, done.stderr) == (0, b"")


def test_loss_alone_is_nfts_and_only_one_way(lab: Lab) -> None:
    link(lab, sending={"loss": 1.0})
    assert links(lab)["a"]["method"] == "tbf and nft"
    with end_of(lab["a"]) as a, end_of(lab["b"]) as b, end_of(lab["c"]) as c:
        a.send(frame(1))
        b.send(frame(2))
        assert a.take(1) == [frame(2)]
        assert c.take(1) == [frame(2)]
        link(lab, sending={"loss": 0.5})
        a.send(*(frame(number) for number in range(10, 10 + COUNT)))
        c.send(frame(3))
        wait_for(b, frame(3))
        # All or nothing of so many has a chance of 1 in 10 to the power of 90.
        assert 0 < len(b.got) - 1 < COUNT
        link(lab, clear=("out", "in"))
        a.send(frame(4))
        wait_for(b, frame(4))


def wait_for(end: End, wanted: bytes) -> None:
    while wanted not in [data for _, data in end.got]:
        end.take(len(end.got) + 1)


def test_rate_alone_is_tbfs_and_holds_what_is_too_fast(lab: Lab) -> None:
    link(lab, sending={"rate": 1_000_000, "queue": COUNT}, receiving={"rate": 5_000_000})
    assert links(lab)["a"]["method"] == "tbf and nft"
    sent = [frame(number).ljust(1000, b"\x55") for number in range(60)]
    with end_of(lab["b"]) as there, end_of(lab["a"]) as here:
        here.send(*sent)
        assert there.take(len(sent)) == sent
        times = [at for at, _ in there.got]
    # Nothing is faster than the rate but what the bucket held: three frames, and a little.
    least = (len(sent) - 4) * 1000 * 8 / 1_000_000
    assert times[-1] - times[0] > least * 0.9e9


def test_what_a_call_does_not_name_stays_and_the_frames_under_way_too(lab: Lab) -> None:
    link(lab, sending={"delay": 1.0})
    first = wire(lab)
    with end_of(lab["b"]) as there, end_of(lab["a"]) as here:
        here.send(frame(1))
        link(lab, sending={"loss": 1.0}, receiving={"delay": 0.001})
        here.send(frame(2))
        link(lab, sending={"loss": 0.0})
        here.send(frame(3))
        assert there.take(2) == [frame(1), frame(3)]
    assert wire(lab) == first
    row = links(lab)["a"]
    assert (row["out"], row["in"]) == ({"delay_s": 1.0}, {"delay_s": 0.001})


def test_each_method_gives_way_to_the_next(lab: Lab) -> None:
    says: list[tuple[dict[str, Any], str]] = [
        ({"loss": 0.0, "rate": 100_000_000}, "tbf and nft"),
        ({"delay": 0.001}, "user-space wire"),
        ({"delay": 0.0, "rate": None, "loss": 0.000001}, "tbf and nft"),
        ({"seed": 1}, "user-space wire"),
        ({"seed": None, "loss": 0.0, "rate": 100_000_000}, "tbf and nft"),
    ]
    with end_of(lab["b"]) as there, end_of(lab["a"]) as here:
        for number, (said, method) in enumerate(says):
            link(lab, sending=said)
            assert links(lab)["a"]["method"] == method
            # Where frames are looked at, nobody leaves them unfinished.
            looks = method == "user-space wire" or bool(said.get("loss"))
            assert offload(lab["a"]) is not looks
            here.send(frame(number))
            assert there.take(number + 1)[-1] == frame(number)


def offload(node: Node) -> bool:
    def look() -> tuple[bytes, list[int]]:
        with socket.socket() as sock:
            return b"%d" % ethtool.has_offload(sock, "eth0"), []

    return bool(int(from_inside(node.pid, ("user", "net"), look)[0]))


def test_the_wire_is_started_again_when_it_dies(lab: Lab) -> None:
    link(lab, sending={"delay": 0.001}, receiving={"delay": 0.001})
    link(lab, node="c", sending={"delay": 0.001})
    with end_of(lab["b"]) as b, end_of(lab["a"]) as a, end_of(lab["c"]) as c:
        for number in (1, 2):
            killed = wire(lab)
            kill(killed)
            # Asked at once: the hub may not have heard of its end yet.
            assert links(lab)["a"]["method"] == "user-space wire"
            assert wire(lab) != killed
            a.send(frame(number))
            c.send(frame(10 + number))
            b.take(2 * number)
            b.send(frame(20 + number))
            wait_for(a, frame(20 + number))
            wait_for(c, frame(20 + number))


def test_a_port_that_goes_down_and_up_is_carried_on(lab: Lab) -> None:
    link(lab, sending={"delay": 0.001}, receiving={"delay": 0.001})
    hub = ask(lab, "status")["pid"]
    port = f"p{links(lab)['a']['port']}"
    with end_of(lab["a"]) as a, end_of(lab["b"]) as b:
        for number in (1, 2):
            for state in ("down", "up"):
                done = run_inside(hub, ("user", "net"), ("ip", "link", "set", port, state))
                assert done.returncode == 0, done.stderr
            # A frame that was sent before the node's end had its carrier again would be lost.
            wait_until(lambda: carrier(lab["a"]), "the cable has its carrier")
            a.send(frame(number))
            wait_for(b, frame(number))
            b.send(frame(10 + number))
            wait_for(a, frame(10 + number))


def carrier(node: Node) -> bool:
    return node.succeed("cat /sys/class/net/eth0/operstate") == "up\n"


def test_with_the_last_cable_the_wire_goes(lab: Lab) -> None:
    link(lab, sending={"delay": 0.001})
    link(lab, node="b", sending={"delay": 0.001})
    pid = wire(lab)
    link(lab, clear=("out",))
    assert wire(lab) == pid
    link(lab, node="b", clear=("out",))
    assert ask(lab, "links") == {"links": [], "wire": None}
    wait_ended(pid)


def test_a_link_that_is_not_there_or_cannot_be_so_changes_nothing(lab: Lab) -> None:
    with pytest.raises(UsageError, match="a has no interface 'eth9'"):
        lab["a"].impair("eth9", sending={"delay": 1.0})
    with pytest.raises(UsageError, match="jitter is more"):
        lab["a"].impair("eth0", sending={"jitter": 1.0})
    for words, said in (
        ((f"{lab.name}/a:eth9", "delay=1ms"), "a has no interface 'eth9'\n  hint: it has eth0"),
        ((f"{lab.name}/a:eth0", "in"), "nothing is said of `in`\n  hint: as `in delay=20ms`"),
        (("--clear",), "--clear wants a cable\n  hint: as `hostlab link r1:eth0 --clear`"),
    ):
        done = subprocess.run([HOSTLAB, "link", *words], capture_output=True, text=True)
        assert done.returncode == 2
        assert said in done.stderr
    assert links(lab) == {}


def test_a_description_changes_its_cables_in_place_and_a_failure_takes_it_back(
    place: Site,
) -> None:
    slow = LAB % (", impair: {delay: 1ms}", ", impair: {in: {delay: 2ms}}")
    lab = place.up(slow)
    before = {name: lab[name].pid for name in "abc"}
    assert {row["method"] for row in links(lab).values()} == {"user-space wire"}
    first = wire(lab)
    slower = LAB % (", impair: {delay: 3ms}", "")
    changed = Lab(described(place.name, slower))
    assert [operation.describe() for operation in changed.plan().operations] == [
        "change impairments a: eth0 out delay=3ms, eth0 in none",
        "change impairments b: eth0 out delay=3ms",
        "change impairments c: eth0 out delay=3ms",
    ]
    refused = slower.replace("b: {role: quiet}", "b: {role: quiet, firewall: {raw: 'nonsense'}}")
    with pytest.raises(Failed, match="its firewall is refused"):
        Lab(described(place.name, refused)).up()
    assert links(lab)["a"]["out"] == {"delay_s": 0.001}
    assert links(lab)["a"]["in"] == {"delay_s": 0.002}
    changed.up()
    assert [row["out"] for row in links(lab).values()] == [{"delay_s": 0.003}] * 3
    assert links(lab)["a"]["in"] == {}
    assert {name: lab[name].pid for name in "abc"} == before
    assert wire(lab) == first
    # Another MTU is another ring; another node's end is another cable.
    changed = place.up(slower.replace("{subnets", "{mtu: 4000, subnets"))
    kill(lab["c"].pid)
    changed.up()
    with end_of(changed["a"], mtu=4000) as a, end_of(changed["c"], mtu=4000) as c:
        for sender, taker in ((a, c), (c, a)):
            knock(sender, taker)
            long = frame(1).ljust(4014, b"\x55")
            sender.send(long)
            wait_for(taker, long)


def test_a_killed_supervisor_loses_no_frame_under_way(place: Site) -> None:
    lab = place.up(LAB % ("", ", impair: {delay: 2s}"))
    link(lab, node="b", sending={"rate": 10_000_000, "loss": 0.000001})
    before, carrying = links(lab), wire(lab)
    with end_of(lab["b"]) as b, end_of(lab["a"]) as a:
        knock(a, b)
        a.send(frame(1))
        supervisor = ask(lab, "status")["pid"]
        kill(supervisor)
        assert ask(lab, "status")["pid"] != supervisor
        assert b.take(1) == [frame(1)]
        after = links(lab)
        assert after["a"].pop("passed")["out"].pop("carried") > 1
        before["a"].pop("passed")
        after["a"].pop("passed", None)
        assert after == before
        assert wire(lab) == carrying
        link(lab, clear=("out", "in"))
        link(lab, node="b", clear=("out", "in"))
        assert ask(lab, "links") == {"links": [], "wire": None}
        a.send(frame(2))
        b.take(2)
        b.send(frame(3))
        wait_for(a, frame(3))


def tables(lab: Lab) -> str:
    """nft's tables of the switch namespace."""
    hub = ask(lab, "status")["pid"]
    return run_inside(hub, ("user", "net"), ("nft", "list", "tables")).stdout.decode()


def test_a_dead_nodes_cable_cannot_be_changed(place: Site) -> None:
    lab = place.up(LAB % (", impair: {delay: 1ms}", ""))
    lab["b"].impair("eth0", clear=("out",), sending={"loss": 0.5})
    assert tables(lab).startswith("table netdev hostlab-port")
    for name in "bc":
        kill(lab[name].pid)
    change = {"node": "c", "interface": "eth0", "sending": {"delay": 0.1}}
    with pytest.raises(Problem, match="node c"):
        ask(lab, "link", change=change)
    wait_until(lambda: set(links(lab)) == {"a"}, "the hub has heard of both deaths")
    assert tables(lab) == ""
    lab.up()
    assert [row["out"] for row in links(lab).values()] == [{"delay_s": 0.001}] * 3
    with end_of(lab["b"]) as b, end_of(lab["c"]) as c:
        knock(c, b)
        c.send(frame(1))
        assert b.take(1) == [frame(1)]


@pytest.fixture
def directory() -> Iterator[Path]:
    """On the machine's own file system, for all to enter."""
    with tempfile.TemporaryDirectory(prefix="hostlab-links-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_plain_users_cables_are_impaired_too(directory: Path) -> None:
    tried = ["unshare", "-U", "-r", "-n", "-m", "true"]
    if os.geteuid() or subprocess.run(tried, user=65534, group=65534, check=False).returncode:
        pytest.skip("here: no plain user can stage a lab")
    text = f"name: links-{os.getpid()}\n" + PLAIN
    place = UserSite(directory, text, is_root=False)
    try:
        assert place.run("a", "python3", "-c", ECHO, "slow") == "through\n"
        for dead in ("deaf", "dumb"):
            assert place.run("a", "python3", "-c", ECHO, dead) == "lost\n"
    finally:
        place.close()
