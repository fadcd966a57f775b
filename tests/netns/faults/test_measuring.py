"""The meter of a failover, on the example whose service address a router moves."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from hostlab.checks import requests
from hostlab.checks.requests import How, Probe
from hostlab.errors import Failed, Problem
from hostlab.faults import injecting, witness
from hostlab.faults.following import FaultFeed
from hostlab.faults.measuring import asking, measure
from hostlab.faults.outage import FIGURES
from hostlab.faults.site import Site
from hostlab.observe.snapshot import Snapshot
from hostlab.spec.faults import parse
from hostlab.spec.model import TimedFault
from tests.netns.faults.fault_site import Ran, assert_whole, broken_lab, lacking
from tests.netns.lab.lab_site import DEADLINE_S, wait_until

pytestmark = pytest.mark.netns

EXAMPLE = Path(__file__).parents[3] / "examples/failover"
ECHO = """
import socket
ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ours.bind(("", 7))
while True:
    ours.sendto(*ours.recvfrom(100)[::1])
"""
PAGE = Probe(how=How.GET, target="http://10.9.9.9/", rate=50, timeout_s=5)
SETTLE_S = 0.3


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    text = (EXAMPLE / "failover.yaml").read_text().replace("name: failover\n", "")
    ours = f"copy: {EXAMPLE}/health.py}}, /srv/echo.py: {json.dumps(ECHO)}"
    text = text.replace("copy: health.py}", ours)
    text = text.replace("jobs: {health:", "jobs: {echo: python3 /srv/echo.py, health:")
    with (
        pytest.MonkeyPatch.context() as patch,
        broken_lab(tmp_path_factory.mktemp("lab"), patch, text, kind="meter") as found,
    ):
        yield found


@pytest.fixture(scope="module")
def before(site: Site) -> Snapshot:
    """The lab as it is when web1 serves."""
    serving(site, "web1")
    return witness.take(site)


def serving(site: Site, name: str) -> None:
    """Wait until a server, and nobody else, answers the client."""
    with asking(site, "client", PAGE) as asked:
        found = asked.steady(0, settle_s=SETTLE_S, wait_s=DEADLINE_S, by=frozenset({name}))
    assert found is not None, asked.last_said()


def timeline(site: Site, words: str, *, for_s: float | None = None) -> list[TimedFault]:
    return [
        TimedFault(at_s=0, fault=fault, for_s=for_s) for fault in parse(words.split(), site.lab)
    ]


def assert_restored(site: Site, before: Snapshot) -> None:
    assert injecting.injected(site) == ()
    serving(site, "web1")
    assert_whole(site, before, but=frozenset({witness.PROCESS}))


def test_a_failover_is_measured_twice(site: Site, before: Snapshot) -> None:
    if lacking(site, "node-frozen web1"):
        pytest.skip("here: no cgroup v2 that can be frozen")
    probe = Probe(how=How.GET, target="http://10.9.9.9/", rate=50, timeout_s=1)
    course = measure(
        site,
        timeline(site, "node-frozen web1"),
        probe,
        node="client",
        runs=2,
        settle_s=SETTLE_S,
        then=frozenset({"web2"}),
    )
    for number, found in enumerate(course, 1):
        assert found.number == number
        assert found.recovered
        assert set(found.before) == {"web1"}
        assert set(found.after) == {"web2"}
        # Who hangs for a second is asked again meanwhile, as often as before.
        assert found.failed + found.left_out > 3
        assert found.sent > found.failed
        assert found.errors["no answer in time"]
        assert found.moved_s is not None
        assert found.first_good_s is not None
        assert 0 < found.moved_s <= found.first_good_s
        assert injecting.injected(site) == ()
    assert_restored(site, before)


def test_who_is_drained_is_left_before_it_goes(site: Site, before: Snapshot, hostlab: Ran) -> None:
    """Two faults one after the other would end in one that nobody notices."""
    words = ("--from", "client", "--get", "http://10.9.9.9/", "--timeout", "30s", "--lab")
    said = json.loads(
        hostlab(
            "fault",
            "measure",
            "file-present router path=/srv/web1.off",
            *words,
            site.lab.name,
            "--then",
            "web2",
            "--json",
            status=0,
        )
    )
    (run,) = said["runs"]
    assert list(run["after"]) == ["web2"]
    assert run["moved_s"] > 0
    # A router moves connections too, and those that are open are reset by who does not know them.
    assert set(run["errors"]) <= {"Connection reset by peer"}
    assert said["request"]["how"] == "get"
    assert said["timeline"] == [
        {"at_s": 0.0, "fault": "file-present router path=/srv/web1.off", "for_s": None}
    ]
    assert said["spread"]["moved_s"]["max"] == run["moved_s"]
    assert_restored(site, before)


def test_a_timeline_that_ends_by_itself(site: Site, before: Snapshot) -> None:
    probe = Probe(how=How.UDP, target="10.1.0.2:7", rate=50)
    (found,) = measure(
        site,
        timeline(site, "node-cut-off client", for_s=0.2),
        probe,
        node="client",
        settle_s=SETTLE_S,
    )
    assert found.recovered
    assert found.failed
    assert found.first_good_s is not None
    assert found.first_good_s > 0.2 <= found.done_s
    assert found.moved_s is not None  # each answer is another text
    assert_restored(site, before)


def test_pings_are_told_from_each_other(site: Site, before: Snapshot) -> None:
    probe = Probe(how=How.PING, target="web1", rate=1000)
    (found,) = measure(
        site,
        timeline(site, "one-way-loss web1:eth0 loss=50%", for_s=0.3),
        probe,
        node="client",
        settle_s=SETTLE_S,
        wait_s=DEADLINE_S,
    )
    assert found.recovered
    assert 0 < found.failed < found.sent
    assert set(found.before) == set(found.after) == {"10.2.0.2"}
    assert found.longest_gap_s is not None
    assert found.outage_s is not None
    assert found.longest_gap_s < found.outage_s
    assert_restored(site, before)


def test_what_does_not_recover_fails_and_is_mended(
    site: Site, before: Snapshot, hostlab: Ran
) -> None:
    lab = ("--lab", site.lab.name, "--from", "client", "--settle", "100ms")
    text = hostlab(
        "fault",
        "measure",
        "link-down web1:eth0",
        "link-down web2:eth0",
        *lab,
        "--get",
        "http://10.9.9.9/",
        "--wait",
        "1s",
        status=1,
    )
    assert text.startswith("✗ run 1: web1 answered, and it was not all good again in time; ")
    assert_restored(site, before)


def test_a_run_that_takes_too_long_fails(site: Site, before: Snapshot, hostlab: Ran) -> None:
    text = hostlab(
        *("fault", "measure", "node-cut-off web1", "--lab", site.lab.name, "--from", "client"),
        *("--get", "http://10.9.9.9/", "--timeout", "300ms", "--settle", "300ms", "--runs", "2"),
        *("--then", "web2", "--within", "1ms", "--follow"),
        status=1,
    )
    lines = text.splitlines()
    assert [line for line in lines if line.startswith("✗ run ")] == [
        line for line in lines if ": web1, then web2: last good " in line
    ]
    told = [line.split("  ")[2] for line in lines if line.startswith("  ")]
    assert [text for text in told if "web1" in text][:2] == ["web1 answers", "node-cut-off web1"]
    assert {"web2 answers", "cleared node-cut-off web1"} < set(told)
    header = lines.index("             MIN      MEDIAN   P95      MAX")
    assert [line.split("  ")[0] for line in lines[header + 1 :]] == [*FIGURES]
    assert_restored(site, before)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--get", "http://10.9.9.9/none"), "the last answer: status 404"),
        (("--get", "http://10.9.9.9:81/"), "the last answer: Connection refused"),
        (("--udp", "10.2.0.99:9", "--timeout", "100ms"), "the last answer: "),
    ],
)
def test_a_service_that_does_not_answer_is_not_broken(
    site: Site, before: Snapshot, hostlab: Ran, words: tuple[str, ...], said: str
) -> None:
    text = hostlab(
        "fault", "measure", "link-down web1:eth0", "--lab", site.lab.name, "--from", "client",
        *words, "--wait", "500ms", "--settle", "100ms", status=1,
    )  # fmt: skip
    assert said in text
    assert injecting.injected(site) == ()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--from", "clint", "--ping", "web1"), "did you mean client?"),
        (("--from", "client"), "one of --get, --ping and --udp is needed"),
        (("--from", "client", "--ping", "web1", "--udp", "web1:7"), "one of --get"),
        (("--from", "client", "--get", "ftp://web1/"), "is no http URL"),
        (("--from", "client", "--ping", "web1", "--rate", "1001"), "up to 1000"),
        (("--from", "client", "--ping", "web1", "--rate", "nan"), "up to 1000"),
        (("--from", "client", "--ping", "web1", "--settle", "soon"), "is not a time"),
        (("--from", "client", "--ping", "web1", "--wait", "0"), "more than no time"),
        (("--from", "client", "--ping", "web1", "--header", "x"), "gets none"),
        (("--from", "client", "--ping", "web1", "link-down web1"), "is done to"),
        (("--from", "client", "--ping", "web1", "link-down 'web1"), "No closing quotation"),
    ],
)
def test_what_is_said_wrongly(site: Site, hostlab: Ran, words: tuple[str, ...], said: str) -> None:
    fault = () if "link-down" in words[-1] else ("link-down web1:eth0",)
    assert said in hostlab("fault", "measure", *fault, *words, "--lab", site.lab.name, status=2)


def test_no_more_requests_are_open_than_there_are_descriptors(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "MOST_UNANSWERED", 3)
    nobody = Probe(how=How.UDP, target="10.2.0.99:9", rate=200, timeout_s=0.1)
    deadline = time.monotonic() + DEADLINE_S
    with asking(site, "client", nobody) as asked:
        while not asked.left_out or len(asked.log) < 6:
            assert time.monotonic() < deadline, asked.last_said()
            asked.take(deadline)
    assert not any(answer.ok for answer in asked.log)
    for answer in asked.log:
        assert sum(a.sent <= answer.sent < a.ended for a in asked.log) <= 3


def test_a_name_that_nobody_knows(site: Site) -> None:
    probe = Probe(how=How.PING, target="nobody.invalid")
    with pytest.raises(Problem, match="does not resolve"), asking(site, "client", probe):
        pass


BOTH = """
segments: [lan]
nodes:
  a:
  b:
    files: {/srv/index.html: "b\\nis here"}
    jobs: {web: "python3 -m http.server 80 --bind :: --directory /srv"}
"""


def test_by_ipv6_until_the_node_that_asks_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with broken_lab(tmp_path, monkeypatch, BOTH) as site:
        pings = Probe(how=How.PING, target="fd00::2", rate=50)
        for probe, who in (
            (Probe(how=How.GET, target="http://[fd00::2]/", rate=50), "b"),
            (Probe(how=How.GET, target="http://b/", rate=50, header="Content-Length"), "9"),
            (pings, "fd00::2"),
        ):
            with asking(site, "a", probe) as asked:
                found = asked.steady(0, settle_s=SETTLE_S, wait_s=DEADLINE_S, by=frozenset({who}))
                assert found is not None, asked.last_said()
        course = measure(site, timeline(site, "node-killed a"), pings, node="a", settle_s=SETTLE_S)
        with pytest.raises(Failed, match="node a, from which the requests are sent, has ended"):
            next(course)
        assert injecting.injected(site) == ()
        assert not site.is_dead("a")


def test_a_command_that_is_killed_leaves_a_fault_that_can_be_cleared_and_nobody_who_asks(
    site: Site, before: Snapshot
) -> None:
    words = [f"{Path(sys.executable).parent}/hostlab", "fault", "measure", "link-down web1:eth0"]
    words += ["link-down web2:eth0", "--from", "client", "--get", "http://10.9.9.9/"]
    words += ["--lab", site.lab.name, "--settle", "100ms"]
    with ExitStack() as stack:
        feed = stack.enter_context(closing(FaultFeed(site.lab.name)))
        command = stack.enter_context(subprocess.Popen(words, stdout=subprocess.DEVNULL))
        stack.callback(command.kill)
        told: list[str] = []
        while len(told) < 2:
            assert select.select([feed], [], [], DEADLINE_S)[0], told
            told += [event.name for _, _, event in feed.read()]
        assert len(guests(site)) >= 1
        os.kill(command.pid, signal.SIGKILL)
    wait_until(lambda: not guests(site), "nobody is in the client's network")
    assert len(injecting.injected(site)) == 2
    injecting.clear(site)
    assert_restored(site, before)


def guests(site: Site) -> list[int]:
    """Who is in the client's network without being a process of the client."""
    network = os.stat(f"/proc/{site.pid('client')}/ns/net").st_ino
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            is_in = os.stat(f"/proc/{name}/ns/net").st_ino == network
            pids = os.stat(f"/proc/{name}/ns/pid").st_ino
            if is_in and pids == os.stat("/proc/self/ns/pid").st_ino:
                found.append(int(name))
        except OSError:
            continue
    return found
