"""The probes of `doctor` on this machine, judged by what other means say."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
from pathlib import Path

import msgspec
import pytest

from hostlab.errors import Problem
from hostlab.linux import clone, rtnetlink
from hostlab.linux.libc import sethostname, unshare
from hostlab.linux.netlink import Netlink
from hostlab.observe import doctor_isolation, finding
from hostlab.observe.differences import circumstances
from hostlab.observe.doctor import NEEDED, blocking, doctor
from hostlab.observe.finding import Finding, State, tried
from tests.netns.lab.lab_site import wait_until

pytestmark = pytest.mark.netns


@pytest.fixture(scope="module")
def findings() -> dict[str, Finding]:
    return {one.name: one for one in doctor()}


def test_every_finding_says_what_it_means_and_how_it_is_mended(
    findings: dict[str, Finding],
) -> None:
    for one in findings.values():
        assert one.detail or one.state is State.OK, one
        assert one.remedy or one.state is not State.MISSING, one
        assert len(one.row()) == len(Finding.COLUMNS)
    assert msgspec.json.decode(msgspec.json.encode(findings), type=dict[str, Finding]) == findings


def test_names_are_unique_and_the_needed_ones_are_among_them(
    findings: dict[str, Finding],
) -> None:
    names = [one.name for one in doctor()]
    assert len(names) == len(set(names))
    assert set(NEEDED) <= set(names)


@pytest.mark.parametrize("name", ["ip", "tcpdump", "runc"])
def test_a_program_is_there_or_its_package_is_named(
    findings: dict[str, Finding], name: str
) -> None:
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin")
    assert (findings[name].state is State.OK) == (path is not None)
    assert path or findings[name].remedy.startswith("apt-get install ")


@pytest.mark.parametrize("kind", ["veth", "bridge", "dummy", "vlan"])
def test_a_kind_of_link_is_judged_as_ip_judges_it(findings: dict[str, Finding], kind: str) -> None:
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        pytest.skip("no ip or unshare to compare with")
    script = f"ip link add probe1 type {kind}"
    if kind == "vlan":
        script = "ip link add v0 type bridge; ip link add link v0 name probe1 type vlan id 5"
    done = subprocess.run(["unshare", "-rn", "sh", "-ec", script], capture_output=True, check=False)
    assert (findings[kind].state is State.OK) == (done.returncode == 0)


def test_it_leaves_nothing(findings: dict[str, Finding]) -> None:
    def picture() -> set[str]:
        found = {f"descriptor {fd}" for fd in os.listdir("/proc/self/fd")}
        found |= set(Path("/proc/self/mountinfo").read_text().splitlines())
        # Links of labs, which others may have on this machine, are marked.
        with Netlink() as netlink:
            links = [link for link in rtnetlink.links(netlink) if not link.altnames]
        return found | {f"link {link.name}" for link in links}

    before = picture()
    doctor()
    # For a moment a link of another's lab is there and has its mark not yet.
    wait_until(lambda: picture() <= before, "nothing of it is left")
    groups = [name for _, names, _ in os.walk("/sys/fs/cgroup") for name in names]
    assert not [name for name in groups if name.endswith(f"doctor-{os.getpid()}")]
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_what_keeps_a_lab_from_standing() -> None:
    there = Finding("network", "veth", State.OK)
    absent = Finding("network", "veth", State.MISSING, "no", "get it")
    unneeded = Finding("network", "dummy", State.MISSING, "no", "get it")
    assert blocking((there, unneeded)) == ()
    assert blocking((absent, unneeded)) == (absent,)


def test_a_try_happens_in_its_own_namespaces() -> None:
    before = os.uname().nodename

    def rename() -> str:
        sethostname(b"elsewhere", 9)
        return os.uname().nodename

    outcome = tried(rename, flags=clone.CLONE_NEWUTS, is_rooted=True)
    assert (outcome.error, outcome.value) == (None, "elsewhere")
    assert os.uname().nodename == before


def test_a_refusal_is_an_outcome_with_its_number() -> None:
    def refused() -> None:
        os.rmdir("/proc")

    outcome = tried(refused, is_rooted=True)
    assert not outcome.is_ok
    assert outcome.number in (errno.EBUSY, errno.EPERM, errno.EACCES)


def test_a_powerless_child_has_no_capabilities() -> None:
    outcome = tried(lambda: unshare(clone.CLONE_NEWNET), as_nobody=True)
    assert outcome.number == errno.EPERM


def test_a_fault_of_our_own_is_not_taken_for_a_missing_thing() -> None:
    def wrong() -> None:
        raise KeyError("a slip")

    with pytest.raises(Problem, match="a slip") as caught:
        tried(wrong)
    assert caught.value.exit_code == 4


def test_a_child_without_an_answer_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "CHILD_LIMIT_S", 1)
    outcome = tried(signal.pause)
    assert outcome.number == errno.ETIMEDOUT


def test_without_a_cgroup_it_says_what_that_means() -> None:
    def powerless() -> list[dict[str, str]]:
        return [msgspec.to_builtins(one) for one in doctor_isolation.cgroup_kind()]

    outcome = tried(powerless, as_nobody=True)
    assert outcome.is_ok, outcome.error
    states = {one["name"]: one["state"] for one in outcome.value}
    if states["cgroups"] != "missing":
        pytest.skip("here: a cgroup is delegated to nobody")
    assert (
        "forks bounded by RLIMIT_NPROC only, no memory bound, no freeze"
        in (outcome.value[0]["detail"])
    )
    assert "Delegate=yes" in outcome.value[0]["remedy"]


def test_a_range_of_users_is_read_as_subuid_says(tmp_path: Path) -> None:
    path = tmp_path / "subuid"
    path.write_text(f"someone:1:2\n{os.getuid()}:200000:65536\n")
    assert doctor_isolation._subordinate(str(path)) == (200_000, 65_536)
    assert doctor_isolation._subordinate(str(tmp_path / "none")) is None


def test_the_circumstances_of_a_powerless_user() -> None:
    mine = circumstances(masked_paths=("/proc/kcore",))
    assert mine.release == os.uname().release
    assert mine.is_rootless == (os.geteuid() != 0)
    assert mine.masked_paths == ("/proc/kcore",)
    outcome = tried(lambda: msgspec.to_builtins(circumstances()), as_nobody=True)
    assert outcome.is_ok, outcome.error
    assert outcome.value["is_rootless"]
