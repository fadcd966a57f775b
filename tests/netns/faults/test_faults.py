"""Each fault does what it is called, and when it is cleared the lab is what it was."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hostlab.errors import Failed, Unsupported, UsageError
from hostlab.faults import injecting, record, witness
from hostlab.faults.hands import HANDS
from hostlab.faults.record import Phase
from hostlab.faults.site import Site
from hostlab.linux import rtnetlink
from hostlab.observe.snapshot import Snapshot
from hostlab.spec.faults import KINDS, parse
from tests.netns.faults.fault_site import (
    DEATHS,
    HELLO,
    SHORT_S,
    answer,
    asks,
    assert_whole,
    broken_lab,
    die_injecting,
    in_files,
    inject,
    job,
    lacking,
    node_of,
)
from tests.netns.lab.lab_site import wait_until

pytestmark = pytest.mark.netns

Seen = Callable[[Site], bool]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with (
        pytest.MonkeyPatch.context() as patch,
        broken_lab(tmp_path_factory.mktemp("lab"), patch) as found,
    ):
        yield found


@pytest.fixture(scope="module")
def before(site: Site) -> Snapshot:
    assert asks(site, "c") == HELLO
    return witness.take(site)


def unheard(client: str) -> Seen:
    return lambda site: asks(site, client, timeout_s=SHORT_S) != HELLO


def no_answer(address: str, port: int) -> Seen:
    """Nobody there says that nobody listens."""

    def seen(site: Site) -> bool:
        said = site.in_network("c", lambda: answer(address, port, SHORT_S))
        return bool(said == "TimeoutError")

    return seen


def no_carrier(*links: str) -> Seen:
    def seen(site: Site) -> bool:
        lines = [line for line in witness.take(site)["link"] if " carrier" not in line]
        return {f"{line.split()[0]}{line.split()[1]}" for line in lines} == set(links)

    return seen


def both(*every: Seen) -> Seen:
    return lambda site: all(seen(site) for seen in every)


def d_is_heard(site: Site) -> bool:
    return asks(site, "d") == HELLO


def refuses(path: str, reason: str) -> Seen:
    def write() -> None:
        with open(path, "w") as file:
            file.write("more" * 2000)

    return lambda site: in_files(site, "s", write) == reason


def is_there(path: str) -> Seen:
    def seen(site: Site) -> bool:
        with pytest.raises(Failed, match="is there already"):
            inject(site, "file-present s path=/etc/hosts")
        return bool(in_files(site, "s", lambda: os.path.exists(path)))

    return seen


def is_stopped(site: Site) -> bool:
    path = Path(f"/proc/{job(site)}/stat")
    wait_until(lambda: path.read_text().rpartition(")")[2].split()[0] == "T", "the job stands")
    return True


def lacks_descriptors(site: Site) -> bool:
    """A connection of another test may have been open still when its limit was lowered."""
    soft, hard = resource.prlimit(job(site), resource.RLIMIT_NOFILE)
    return soft < 20 < hard


def is_frozen(site: Site) -> bool:
    return "frozen 1" in Path(f"{site.unified}/s/cgroup.events").read_text()


def group_says(controller: str, file: str, wanted: Callable[[int], bool]) -> Seen:
    def seen(site: Site) -> bool:
        group = f"{site.v1[controller]}/s"
        pids = Path(f"{group}/cgroup.procs").read_text().split()
        return wanted(int(Path(f"{group}/{file}").read_text())) and str(job(site)) in pids

    return seen


def resolves(name: str, lines: str) -> Seen:
    """What the node's own programs are told of a name."""

    def seen(site: Site) -> bool:
        said: str = node_of(site, "c").succeed(f"getent ahostsv4 {name}")
        return said.startswith(lines)

    return seen


def asked_in_vain(site: Site) -> bool:
    """Somebody was asked for the name, who did not answer; then the name was found."""
    assert resolves("s", "10.2.0.2 ")(site)
    rules = node_of(site, "c").succeed("nft list ruleset")
    return "counter packets 0 " not in rules


WITHOUT_NEW_PROCESSES = [
    ("link-down r1:eth1", both(no_carrier("r1:eth1", "r2:eth0"), unheard("c"), d_is_heard)),
    ("link-down s:eth0", both(no_carrier("s:eth0"), unheard("d"))),
    ("link-down left", both(no_carrier("c:eth0", "r1:eth0"), d_is_heard)),
    ("link-down right", both(no_carrier("r2:eth1", "s:eth0", "d:eth0"), unheard("d"))),
    ("one-way-loss s:eth0", both(no_carrier(), unheard("d"))),
    ("one-way-loss s:eth0 direction=out", both(no_carrier(), unheard("d"))),
    ("one-way-loss d:eth0 direction=out loss=0.0001", d_is_heard),
    ("partition right apart=s", both(unheard("d"), unheard("c"))),
    ("partition right apart=s+d", both(d_is_heard, unheard("c"))),
    ("node-cut-off s", both(no_carrier(), unheard("d"))),
    ("node-cut-off r1", both(unheard("c"), d_is_heard)),
    ("node-frozen s", both(is_frozen, unheard("d"))),
    ("cpu-slow s share=5%", group_says("cpu", "cpu.cfs_quota_us", lambda n: n == 5000)),
    (
        "memory-pressure s room=8M",
        group_says("memory", "memory.limit_in_bytes", lambda n: 8 << 20 <= n < 1 << 30),
    ),
    ("job-stopped s/echo", both(is_stopped, unheard("d"))),
    ("descriptors-exhausted s/echo", lacks_descriptors),
    ("disk-full s", refuses("/srv/more", "No space left on device")),
    ("disk-full s path=/tmp", refuses("/tmp/more", "No space left on device")),
    ("read-only s", refuses("/srv/more", "Read-only file system")),
    ("read-only s path=/run", refuses("/run/more", "Read-only file system")),
    ("file-present s path=/srv/off", is_there("/srv/off")),
    ("dns-slow c delay=1s", asked_in_vain),
    ("dns-wrong c name=s address=10.2.0.99", resolves("s", "10.2.0.99 ")),
    ("port-filtered s port=7000", unheard("d")),
    ("port-filtered s port=7001", d_is_heard),
    ("port-filtered r2 port=7000", both(d_is_heard, lambda site: asks(site, "c") == HELLO)),
    ("port-filtered r1 port=7", no_answer("10.0.0.2", 7)),
    ("route-withdrawn c to=default", unheard("c")),
    ("route-withdrawn r1 to=10.0.0.0/24", unheard("c")),
]


@pytest.mark.parametrize(
    ("words", "seen"), WITHOUT_NEW_PROCESSES, ids=[words for words, _ in WITHOUT_NEW_PROCESSES]
)
def test_it_is_done_and_taken_back(site: Site, before: Snapshot, words: str, seen: Seen) -> None:
    if lacking(site, words):
        pytest.skip("here: no cgroup for this fault, or one of the other version")
    inject(site, words)
    try:
        assert seen(site)
    finally:
        injecting.clear(site)
    assert asks(site, "c") == HELLO
    assert_whole(site, before)


def test_a_file_goes_with_its_fault_and_anothers_stays(site: Site, before: Snapshot) -> None:
    path = "/srv/off"
    for words in ("true", f"echo another > {path}.new; mv {path}.new {path}"):
        inject(site, f"file-present s path={path}")
        node_of(site, "s").succeed(words)
        injecting.clear(site)
        left = node_of(site, "s").succeed("ls -A /srv").split()
        assert ("off" in left) == (words != "true")
        assert not any(name.startswith(".hostlab") for name in left)
    node_of(site, "s").succeed(f"rm {path}")
    with pytest.raises(UsageError, match="has no directory /none"):
        inject(site, "file-present s path=/none/off")
    assert_whole(site, before)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("disk-full d path=/none", "node d has no /none"),
        ("read-only d path=/none", "node d has no /none"),
        ("disk-full d path=/proc", "/proc of node d is a proc, which cannot be full"),
    ],
)
def test_a_path_that_is_not_there_is_the_users_mistake(
    site: Site, before: Snapshot, words: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        inject(site, words)
    assert_whole(site, before)


def test_what_was_begun_and_not_done_is_taken_back(site: Site, before: Snapshot) -> None:
    """The command was killed after the journal's line, before it had done anything."""
    for words in (words for words, _ in WITHOUT_NEW_PROCESSES if not lacking(site, words)):
        (fault,) = parse(words.split(), site.lab)
        number = record.next_number(record.read(site.directory))
        state = HANDS[fault.kind].look(site, fault, number)
        record.write(site.directory, number, Phase.BEGUN, fault, state)
        (standing,) = injecting.injected(site)
        assert (standing.fault, standing.phase) == (fault, Phase.BEGUN)
        injecting.clear(site)
    assert injecting.injected(site) == ()
    assert_whole(site, before)


def test_what_was_done_and_not_told_is_taken_back_twice(site: Site, before: Snapshot) -> None:
    """It was killed when all was done; whoever took it back was killed when all was undone."""
    for words in (words for words, _ in WITHOUT_NEW_PROCESSES if not lacking(site, words)):
        (fault,) = parse(words.split(), site.lab)
        number = record.next_number(record.read(site.directory))
        state = HANDS[fault.kind].look(site, fault, number)
        record.write(site.directory, number, Phase.BEGUN, fault, state)
        HANDS[fault.kind].apply(site, fault, state)
        HANDS[fault.kind].undo(site, fault, state)
        injecting.clear(site)
    assert_whole(site, before)


def test_several_at_once_are_taken_back_in_any_order(site: Site, before: Snapshot) -> None:
    every = (
        "link-down cable",
        "partition right apart=s",
        "node-cut-off d",
        "dns-wrong c name=s",
        "disk-full s path=/tmp",
        "descriptors-exhausted s/echo",
        "read-only d",
    )
    numbers = [each.number for words in every for each in inject(site, words)]
    assert [each.number for each in injecting.injected(site)] == numbers
    for number in (*numbers[::2], *numbers[1::2]):
        injecting.clear(site, {number})
    assert_whole(site, before)


def test_an_interface_that_comes_or_goes_is_no_reason_not_to_look(
    site: Site, before: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a daemon makes and removes them: one is listed and gone, one has come after the list."""
    listdir, links = os.listdir, rtnetlink.links
    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", lambda path: [*listdir(path), "gone0"])
        patch.setattr(rtnetlink, "links", lambda netlink: links(netlink)[:-1])
        during = witness.take(site)
    assert during["setting"] == before["setting"]
    assert set(during["address"]) < set(before["address"])
    assert_whole(site, before)


def test_a_set_is_done_whole_or_not_at_all(site: Site, before: Snapshot) -> None:
    assert len(inject(site, "node-cut-off c,d")) == 2
    injecting.clear(site)
    inject(site, "node-cut-off d")
    with pytest.raises(UsageError, match="holds cut d already"):
        inject(site, "node-cut-off c,d")
    assert [str(each.fault) for each in injecting.injected(site)] == ["node-cut-off d"]
    injecting.clear(site)
    assert_whole(site, before)


def test_a_clock_is_not_set_under_a_running_node(site: Site) -> None:
    with pytest.raises(Unsupported) as caught:
        inject(site, "clock-skew c")
    assert "before its first process" in caught.value.message
    assert "namespaces: {time:" in str(caught.value.hint)


def test_no_room_that_is_the_machines_memory_is_filled(site: Site) -> None:
    if os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") < 1 << 30:
        pytest.skip("here: half of the memory is little")
    with pytest.raises(UsageError, match="MiB free"):
        inject(site, "disk-full d")
    assert injecting.injected(site) == ()


def test_an_inject_that_is_killed_is_cleared(site: Site, before: Snapshot) -> None:
    """Killed after its first line, when all is done, and before its last: nothing of it runs on."""
    for words in ("link-down cable", "port-filtered s port=7000", "disk-full s"):
        for die in DEATHS:
            die_injecting(site, words, die)
            injecting.clear(site)
    assert_whole(site, before)


def test_every_kind_is_tried_here() -> None:
    tried = {words.split()[0] for words, _ in WITHOUT_NEW_PROCESSES}
    elsewhere = {"job-down", "job-killed", "node-killed", "clock-skew", "flap"}
    elsewhere |= {"bgp-session-reset", "announcement-withdrawn", "certificate-expired"}
    assert tried | elsewhere == set(KINDS)
    assert set(HANDS) == set(KINDS) - {"flap"}
