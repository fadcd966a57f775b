"""The meter of a failover, on the example whose service address a router moves."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TypeVar

import pytest

from hostlab.checks import requests
from hostlab.checks.requests import How, Probe
from hostlab.cli.main import run
from hostlab.errors import Failed, Problem
from hostlab.faults import injecting, witness
from hostlab.faults.following import FaultFeed
from hostlab.faults.measuring import asking, measure
from hostlab.faults.outage import FIGURES, Outage
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
HASTY, PATIENT = "= 0.1, 0.3, 3, 3", "= 0.1, 0.3, 5, 3"
T = TypeVar("T")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The example; with more patience, for here a server may be slow that is well."""
    directory = tmp_path_factory.mktemp("health")
    health = (EXAMPLE / "health.py").read_text()
    assert HASTY in health
    (directory / "health.py").write_text(health.replace(HASTY, PATIENT))
    text = (EXAMPLE / "failover.yaml").read_text().replace("name: failover\n", "")
    ours = f"copy: {directory}/health.py}}, /srv/echo.py: {json.dumps(ECHO)}"
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


def tried(work: Callable[[], T], is_sound: Callable[[T], bool]) -> T:
    """What `work` returns; again, where a server that was well had been too slow before."""
    for _ in range(20):
        found = work()
        if is_sound(found):
            break
    return found


def timeline(site: Site, words: str, *, for_s: float | None = None) -> list[TimedFault]:
    return [
        TimedFault(at_s=0, fault=fault, for_s=for_s) for fault in parse(words.split(), site.lab)
    ]


def for_a_while(site: Site, words: str, probe: Probe) -> Outage:
    """A fault that a timeline ends; again, where the machine was too slow to do it in its time."""

    def work() -> Outage:
        course = timeline(site, words, for_s=0.5)
        (found,) = measure(site, course, probe, node="client", settle_s=SETTLE_S)
        return found

    return tried(work, lambda found: found.failed > 5)


def assert_restored(site: Site, before: Snapshot) -> None:
    assert injecting.injected(site) == ()
    serving(site, "web1")
    assert_whole(site, before, but=frozenset({witness.PROCESS}))


def test_a_failover_is_measured_twice(site: Site, before: Snapshot) -> None:
    if lacking(site, "node-frozen web1"):
        pytest.skip("here: no cgroup v2 that can be frozen")
    probe = Probe(how=How.GET, target="http://10.9.9.9/", rate=50, timeout_s=1)

    def work() -> list[Outage]:
        course = measure(
            site,
            timeline(site, "node-frozen web1"),
            probe,
            node="client",
            runs=2,
            settle_s=SETTLE_S,
            first=frozenset({"web1"}),
            then=frozenset({"web2"}),
        )
        return list(course)

    runs = tried(work, lambda runs: all(set(each.before) == {"web1"} for each in runs))
    for number, found in enumerate(runs, 1):
        assert found.number == number
        assert found.recovered
        assert set(found.before) == {"web1"}
        assert set(found.after) == {"web2"}
        # Who hangs for a second is asked again meanwhile, as often as before.
        assert found.failed > 5
        assert found.sent > found.failed
        assert found.errors["no answer in time"]
        assert found.moved_s is not None
        assert found.first_good_s is not None
        assert 0 < found.moved_s <= found.first_good_s
    assert_restored(site, before)


def test_who_is_drained_is_left_before_it_goes(site: Site, before: Snapshot, hostlab: Ran) -> None:
    words = ("--from", "client", "--get", "http://10.9.9.9/", "--timeout", "30s")
    fault = "file-present router path=/srv/web1.off"
    # Without --then a run would have ended before the check had failed five times.
    lab = (
        "--lab",
        site.lab.name,
        "--settle",
        "100ms",
        "--json",
        "--first",
        "web1",
        "--then",
        "web2",
    )
    said = tried(
        lambda: json.loads(hostlab("fault", "measure", fault, *words, *lab, status=0)),
        lambda said: list(said["runs"][0]["before"]) == ["web1"],
    )
    (only,) = said["runs"]
    assert list(only["after"]) == ["web2"]
    assert only["moved_s"] > 0
    # A router moves connections too, and those that are open are reset by who does not know them.
    assert set(only["errors"]) <= {"Connection reset by peer"}
    assert said["request"]["how"] == "get"
    assert said["timeline"] == [
        {"at_s": 0.0, "fault": "file-present router path=/srv/web1.off", "for_s": None}
    ]
    assert said["spread"]["moved_s"]["max"] == only["moved_s"]
    assert_restored(site, before)


def test_a_timeline_that_ends_by_itself(site: Site, before: Snapshot) -> None:
    probe = Probe(how=How.UDP, target="10.1.0.2:7", rate=50)
    found = for_a_while(site, "node-cut-off client", probe)
    assert found.recovered
    assert found.failed > 5
    assert found.first_good_s is not None
    assert found.done_s > 0
    assert found.moved_s is not None  # each answer is another text
    assert_restored(site, before)


def test_pings_are_told_from_each_other(site: Site, before: Snapshot) -> None:
    probe = Probe(how=How.PING, target="web1", rate=1000)
    found = for_a_while(site, "one-way-loss web1:eth0 loss=50%", probe)
    assert found.recovered
    assert 5 < found.failed < found.sent
    assert set(found.before) == set(found.after) == {"10.2.0.2"}
    assert found.longest_gap_s is not None
    assert found.outage_s is not None
    assert found.longest_gap_s < found.outage_s
    assert_restored(site, before)


def test_what_does_not_recover_fails_and_is_mended(
    site: Site, before: Snapshot, hostlab: Ran
) -> None:
    words = ["fault", "measure", "link-down web1:eth0", "link-down web2:eth0", "--from", "client"]
    words += ["--get", "http://10.9.9.9/", "--lab", site.lab.name, "--settle", "100ms"]
    text = tried(
        lambda: hostlab(*words, "--wait", "1s", status=1),
        lambda text: text.startswith("✗ run"),
    )
    assert text.startswith("✗ run 1: web1 answered, and it was not all good again in time; ")
    assert_restored(site, before)


def test_a_run_that_takes_too_long_fails(
    site: Site, before: Snapshot, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fault", "measure", "job-down web1/web", "--lab", site.lab.name, "--from", "client"]
    words += ["--get", "http://10.9.9.9/", "--timeout", "5s", "--settle", "300ms", "--runs", "2"]

    def work() -> tuple[int, str]:
        capsys.readouterr()
        status = run([*words, "--first", "web1", "--then", "web2", "--within", "1ms", "--follow"])
        return status, capsys.readouterr().out

    status, text = tried(work, lambda found: found[1].count(": web1, then web2: last good ") == 2)
    assert status == 1, text
    lines = text.splitlines()
    assert sum(line.startswith("✗ run ") for line in lines) == 2
    told = {line.split("  ")[2] for line in lines if line.startswith("  ")}
    assert told > {"web1 answers", "job-down web1/web", "web2 answers", "cleared job-down web1/web"}
    words_of = [line.split() for line in lines]
    header = words_of.index(["MIN", "MEDIAN", "P95", "MAX"])
    assert [line.split("  ")[0] for line in lines[header + 1 :]] == [*FIGURES]


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
        (("--from", "client", "--ping", "web1", "--wait", "900ms"), "for --settle 1s by then"),
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
