"""Faults that stand while the lab is changed: what they were done to may be another, or gone."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.errors import Failed
from hostlab.faults import injecting
from hostlab.faults.site import Site
from hostlab.linux.mounts import make_readonly
from hostlab.sync import Lab
from tests.netns.faults.fault_site import Ran, broken_lab, in_files, inject, lacking, node_of
from tests.netns.lab.lab_site import described, wait_until

pytestmark = pytest.mark.netns

LAB = """
segments: {lan: 10.1.0.0/24, far: 10.2.0.0/24}
nodes:
  a: {interfaces: [lan, far], jobs: {web: sleep 1000}}
  b: {interfaces: [lan, far]}
  c: {interfaces: [lan]}
"""
GONE = (
    ("link-down c:eth0", "  c: {interfaces: [lan]}\n", ""),
    ("node-cut-off c", "  c: {interfaces: [lan]}\n", ""),
    ("node-cut-off c", "c: {interfaces: [lan]}", "c: {interfaces: [far]}"),
    ("link-down c:eth0", "c: {interfaces: [lan]}", "c: {interfaces: [far]}"),
    ("job-down a/web", ", jobs: {web: sleep 1000}", ""),
    ("job-stopped a/web", ", jobs: {web: sleep 1000}", ""),
    ("descriptors-exhausted a/web", ", jobs: {web: sleep 1000}", ""),
)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with broken_lab(tmp_path, monkeypatch, LAB) as found:
        yield found


def apply(site: Site, text: str) -> Site:
    """The lab as it is described now."""
    Lab(described(site.lab.name, text)).up()
    return Site.of(site.lab.name)


@pytest.mark.parametrize(("words", "old", "new"), GONE)
def test_what_an_apply_takes_away_is_broken_no_more(
    site: Site, words: str, old: str, new: str
) -> None:
    assert old in LAB
    inject(site, words)
    site = apply(site, LAB.replace(old, new))
    assert injecting.injected(site) == ()
    inject(site, "link-down a:eth0")  # What is not there contradicts nothing.
    assert len(injecting.injected(site)) == 1
    assert len(injecting.clear(site)) == 2
    assert injecting.clear(site) == ()


@pytest.mark.parametrize("b", ["[lan]", "[far, lan]"])
def test_the_other_end_of_a_cable_that_has_gone_is_still_down(site: Site, b: str) -> None:
    inject(site, "link-down b:eth1")
    site = apply(site, LAB.replace("b: {interfaces: [lan, far]}", f"b: {{interfaces: {b}}}"))
    assert [str(each.fault) for each in injecting.injected(site)] == ["link-down b:eth1"]
    inject(site, "node-cut-off c")
    assert "LOWER_UP" not in node_of(site, "a").succeed("ip -br link show eth1")
    injecting.clear(site)
    assert "LOWER_UP" in node_of(site, "a").succeed("ip -br link show eth1")


def die_and_up(site: Site, name: str, text: str) -> Site:
    """End a node as an accident would, and have it made anew."""
    pidfd = os.pidfd_open(site.pid(name))
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        select.select([pidfd], [], [])
    finally:
        os.close(pidfd)
    return apply(site, text)


@pytest.mark.parametrize(
    "words",
    [
        "node-cut-off b",
        "node-frozen b",
        "cpu-slow b",
        "memory-pressure b",
        "disk-full b path=/tmp",
        "read-only b path=/tmp",
        "dns-wrong b name=c",
    ],
)
def test_a_node_that_is_made_anew_has_no_fault_and_gets_none_back(site: Site, words: str) -> None:
    if lacking(site, words):
        pytest.skip("here: no cgroup for this fault, or one of the other version")
    inject(site, words)
    site = die_and_up(site, "b", LAB)
    assert injecting.injected(site) == ()
    node_of(site, "b").succeed("ping -c1 -W20 10.1.0.1")
    site.in_files("b", lambda: make_readonly(b"/tmp"))
    groups = {name: f"{base}/b" for name, base in site.v1.items() if name in ("cpu", "memory")}
    assert {name for name, group in groups.items() if os.path.isdir(group)} == set()
    assert len(injecting.clear(site)) == 1
    said = in_files(site, "b", lambda: open("/tmp/x", "w").close())
    assert said == "Read-only file system"


def test_a_limit_that_an_apply_has_changed_is_not_changed_back(site: Site) -> None:
    if "cpu" not in site.v1:
        pytest.skip("here: no cgroup for this fault, or one of the other version")
    quota = Path(f"{site.v1['cpu']}/c/cpu.cfs_quota_us")
    for share in (0.5, 0.25):
        inject(site, "cpu-slow c share=5%")
        assert quota.read_text() == "5000\n"
        limited = f"c: {{limits: {{cpu: {share}}}, interfaces: [lan]}}"
        site = apply(site, LAB.replace("c: {interfaces: [lan]}", limited))
        injecting.clear(site)
        assert quota.read_text() == f"{round(share * 100_000)}\n"


def test_jobs_of_a_frozen_node_are_not_changed_and_nobody_waits(site: Site) -> None:
    if site.unified is None:
        pytest.skip("here: no cgroup for this fault, or one of the other version")
    changed = LAB.replace("sleep 1000", "sleep 2000")
    inject(site, "node-frozen a")
    with pytest.raises(Failed, match=r"node a is frozen, so its jobs .*web changed") as caught:
        apply(site, changed)
    assert "hostlab fault clear" in str(caught.value.hint)
    apply(site, LAB.replace("b: {", "b: {sysctls: {net.ipv4.ip_forward: 1}, "))
    injecting.clear(site)
    apply(site, changed)
    assert "sleep 2000" in node_of(site, "a").succeed("ps -e -o args")


def test_who_waits_for_a_frozen_node_can_be_ended(site: Site) -> None:
    if site.unified is None:
        pytest.skip("here: no cgroup for this fault, or one of the other version")
    inject(site, "node-frozen c")
    command = [sys.executable, "-P", "-m", "hostlab.cli.main", "exec", f"{site.lab.name}/c", "true"]
    with subprocess.Popen(command) as process:
        status = Path(f"/proc/{process.pid}/status")

        def handles_it() -> bool:
            (line,) = (x for x in status.read_text().splitlines() if x.startswith("SigCgt:"))
            return bool(int(line.split()[1], 16) >> signal.SIGTERM - 1 & 1)

        wait_until(handles_it, "the command waits")
        process.terminate()
        assert process.wait() == 128 + signal.SIGTERM
    injecting.clear(site)
    node_of(site, "c").succeed("true")


def test_a_dead_node_is_not_an_unknown_one(site: Site, hostlab: Ran) -> None:
    inject(site, "node-killed c")
    name = site.lab.name
    for words in (("exec", f"{name}/c", "true"), ("routes", f"{name}/c"), ("link", f"{name}/c")):
        assert f"node c of lab {name} is not there" in hostlab(*words, status=1)
    assert "has no node 'z'" in hostlab("routes", f"{name}/z", status=2)
    with pytest.raises(Failed, match="is not there"):
        Lab(name)["c"]
    injecting.clear(site)
