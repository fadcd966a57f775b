"""What goes wrong on a machine ends in what was asked for, or in a message that says what to do."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.init.client import Control
from hostlab.lab.driver import HUB_SOCKET
from hostlab.lab.paths import LabDirectory
from hostlab.linux import procfs
from hostlab.plan.journal import Entry, What, line
from tests.netns.lab.campaign import DEADLINE_S, Site, snapshot

pytestmark = pytest.mark.netns
COMMAND = [sys.executable, "-P", "-m", "hostlab.cli.main"]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    if os.geteuid() != 0:
        pytest.skip("needs root: mounts and owners are changed")
    made = Site(tmp_path, f"faults{os.getpid()}")
    before = snapshot(made)
    yield made
    made.run("down", made.name)
    assert snapshot(made) == before


def up(site: Site) -> tuple[str, str]:
    return "up", str(site.files["before"])


def in_mounts(site: Site, change: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command where the mounts are changed, for it alone."""
    script = f"{change} && exec {shlex.join([*COMMAND, *arguments])}"
    return subprocess.run(
        ["unshare", "-m", "sh", "-ec", script],
        env={**os.environ, "HOSTLAB_RUN": site.base},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def test_the_second_of_two_ups_waits_and_finds_nothing_to_do(site: Site) -> None:
    first, second = site.start(*up(site)), site.start(*up(site))
    texts = [site.finish(process).stdout.decode() for process in (first, second)]
    assert first.returncode == second.returncode == 0
    assert sorted("already" in text for text in texts) == [False, True]


def test_labs_of_one_name_in_two_directories_leave_each_other_alone(
    site: Site, tmp_path: Path
) -> None:
    (tmp_path / "twin").mkdir()
    twin = Site(tmp_path / "twin", site.name)
    site.must(*up(site))
    try:
        twin.must(*up(twin))
        site.must("down", site.name)
        twin.must("check", twin.name)
        site.must("down", "--all")
        twin.must("check", twin.name)
    finally:
        twin.must("down", twin.name)


def test_a_lab_of_the_name_of_another_leaves_it_whole_when_it_is_made_anew(
    site: Site, tmp_path: Path
) -> None:
    (tmp_path / "twin").mkdir()
    twin = Site(tmp_path / "twin", site.name)
    twin.must(*up(twin))
    try:
        site.must(*up(site))
        twin.must("check", twin.name)
    finally:
        twin.must("down", twin.name)


@pytest.mark.parametrize("size", ["8k", "16k", "32k", "64k"])
def test_a_full_disk_stops_an_up_that_is_undone(site: Site, size: str) -> None:
    Path(site.base).mkdir(mode=0o700)
    mount = f"mount -t tmpfs -o size={size},mode=0700 none {site.base}"
    filled = f"{mount} && (cat /dev/zero > {site.base}/.filler || true) 2>/dev/null"
    room = f"{filled} && truncate -s -{2 * 4096} {site.base}/.filler"
    done = in_mounts(site, room, *up(site))
    assert done.returncode == 3, done
    assert "make room there" in done.stderr
    assert "No space left" in done.stderr
    os.rmdir(site.base)


def test_a_nodes_disk_limit_is_met_inside_only(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "limited.yaml"
    file.write_text(f"name: {site.name}\nnodes: {{one: {{limits: {{disk: 1M}}}}, two: }}\n")
    site.must("up", str(file))
    write = ("sh", "-c", "head -c 3000000 /dev/zero > /srv/big")
    full = site.run("exec", f"{site.name}/one", "--", *write)
    assert full.returncode != 0
    assert b"No space left" in full.stdout + full.stderr
    site.must("exec", f"{site.name}/two", "--", *write)


@pytest.mark.parametrize("then", ["down", "down --all", "up"])
def test_a_removed_run_directory_hides_no_lab(site: Site, then: str) -> None:
    site.must(*up(site))
    shutil.rmtree(site.base)
    (row,) = json.loads(site.must("ls", "--json"))
    assert (row["lab"], row["up"]) == (site.name, False)
    status = site.run("status", site.name)
    assert status.returncode == 2
    assert f"hostlab down {site.name}" in status.stderr.decode()
    match then:
        case "down":
            assert b"is down" in site.must("down", site.name)
        case "down --all":
            assert b"is down" in site.must("down", "--all")
        case _:
            site.must(*up(site))
            site.must("check", site.name)


def test_where_a_run_directory_was_removed_a_hub_that_starts_anew_ends_nothing(site: Site) -> None:
    site.must(*up(site))
    before = json.loads(site.must("status", site.name, "--json"))
    lives = {row["pid"]: procfs.start_time(row["pid"]) for row in before["nodes"]}
    aside = f"{site.base}.aside"
    os.rename(site.base, aside)
    try:
        os.kill(before["pid"], signal.SIGKILL)
        with Control.to(f"{aside}/{site.name}", HUB_SOCKET) as control:
            # It answers when it has looked for what earlier ones have made.
            assert control.call("status")["pid"] != before["pid"]
    finally:
        os.rename(aside, site.base)
    assert {pid: procfs.start_time(pid) for pid in lives} == lives
    site.must("down", site.name)


def test_a_run_directory_of_someone_else_is_refused(site: Site) -> None:
    os.mkdir(site.base, 0o755)
    os.chown(site.base, 65534, 65534)
    for arguments in (up(site), ("down", site.name)):
        done = site.run(*arguments)
        assert done.returncode == 2, done
        assert b"HOSTLAB_RUN" in done.stderr
    assert os.listdir(site.base) == []
    os.rmdir(site.base)


def test_a_read_only_run_directory_is_named(site: Site) -> None:
    os.mkdir(site.base, 0o700)
    mount = f"mount -t tmpfs -o ro none {site.base}"
    for arguments in (up(site), ("down", site.name)):
        done = in_mounts(site, mount, *arguments)
        assert done.returncode == 3, done
        assert "Read-only file system" in done.stderr
        assert "HOSTLAB_RUN" in done.stderr
    assert in_mounts(site, mount, "ls").returncode == 0
    os.rmdir(site.base)


def test_without_cgroups_a_lab_works_and_says_what_it_lacks(site: Site) -> None:
    without = "umount -R -l /sys/fs/cgroup"
    done = in_mounts(site, without, *up(site))
    assert done.returncode == 0, done
    assert "cgroup" in done.stderr
    site.must("check", site.name)
    limited = site.where / "limited.yaml"
    limited.write_text(f"name: {site.name}x\nnodes: {{one: {{limits: {{memory: 64M}}}}}}\n")
    refused = in_mounts(site, without, "up", str(limited))
    assert refused.returncode == 3, refused
    assert "hostlab doctor" in refused.stderr


def test_after_a_boot_a_lab_is_made_anew_and_no_stranger_is_touched(site: Site) -> None:
    """The journal's pids are another's now; without the boot id they would be killed."""
    with subprocess.Popen(["sleep", "1000"]) as stranger:
        try:
            directory = LabDirectory(site.name, site.base)
            directory.make()
            stat = Path(f"/proc/{stranger.pid}/stat").read_text()
            started = stat.rpartition(")")[2].split()[19]
            directory.record(
                Entry(What.LAB, site.name, "an earlier boot"),
                Entry(What.PROCESS, "hub", f"{stranger.pid} {started}"),
                Entry(What.CGROUP, "/sys/fs/cgroup/unified/hostlab/never"),
            )
            Path(directory.description).write_text("{}")
            site.must(*up(site))
            site.must("check", site.name)
            site.must("down", site.name)
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_recycled_pid_is_not_killed(site: Site) -> None:
    site.must(*up(site))
    with subprocess.Popen(["sleep", "1000"]) as stranger:
        try:
            LabDirectory(site.name, site.base).record(
                Entry(What.PROCESS, "web", f"{stranger.pid} 1")
            )
            site.must("down", site.name)
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_torn_journal_loses_nothing_of_what_follows(tmp_path: Path) -> None:
    directory = LabDirectory("torn", str(tmp_path / "run"))
    directory.make()
    whole, torn = Entry(What.LAB, "torn", "boot"), line(Entry(What.CGROUP, "/a"))[:-7]
    Path(directory.journal).write_bytes(line(whole) + torn)
    directory.record(Entry(What.CGROUP, "/b"))
    assert directory.recorded() == (whole, Entry(What.CGROUP, "/b"))


def test_a_node_that_dies_while_it_is_changed_is_made_again_by_the_same_up(site: Site) -> None:
    """Its end comes between the plan and its operation, which asks for the handle."""
    for _ in range(10):
        site.must(*up(site))
        holders = site.processes("node holder")
        started = time.monotonic()
        change = site.start("up", str(site.files["after"]))
        for pid in holders:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        is_early = time.monotonic() - started < 0.1  # Before the command has begun to plan.
        done = site.finish(change)
        if is_early:
            break
    text = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, text
    site.must("check", site.name)


def test_a_publisher_that_died_unnoticed_is_told_of_and_then_followed_by_another(
    site: Site,
) -> None:
    site.must(*up(site))
    (hub,) = site.processes("hub holder")
    children = Path(f"/proc/{hub}/task/{hub}/children").read_text().split()
    keep = {*site.processes("node holder"), *site.processes("hub supervisor")[:1]}
    os.kill(hub, signal.SIGSTOP)  # So that nobody is told of the end before it is met.
    try:
        for pid in {int(child) for child in children} - keep:
            os.kill(pid, signal.SIGKILL)
        met = site.run(*up(site))
    finally:
        os.kill(hub, signal.SIGCONT)
    assert met.returncode == 1, met
    assert b"repeat the command" in met.stderr
    site.must(*up(site))
    site.must("check", site.name)
    status = json.loads(site.must("status", site.name, "--json"))
    assert [row["node"] for row in status["published"]] == ["web"]
