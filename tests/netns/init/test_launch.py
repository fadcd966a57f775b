"""From the engine's word to a running process: what a job says is so."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from hostlab.errors import Unsupported
from hostlab.init.spawning.child import PR_SET_DUMPABLE
from hostlab.init.spawning.process import SpawnFailed, prepare_to_spawn
from hostlab.linux import sock_ops
from hostlab.linux.clone import CLONE_NEWUSER, clone3
from hostlab.linux.libc import prctl, unshare
from hostlab.spec.job import Cgroup, Job, Process, ResourceLimit, Resources, Step
from tests.netns.init.job_site import Alone, Site, needs_v2, site, wait

pytestmark = pytest.mark.netns
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this")


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as found:
        yield found


def test_a_job_runs_in_a_cgroup_of_its_own_that_goes_with_it(jobs: Site) -> None:
    needs_v2()
    ran = jobs.run(Job(name="net/a", script="cat /proc/self/cgroup\necho $0"), instance="x")
    assert f"0::/hostlab-test-{os.getpid()}/job.net%2fa:x/1" in ran.out
    assert ran.out.endswith("/proc/self/fd/9\n")
    assert (ran.status, ran.warnings) == (0, ())
    assert jobs.path is not None
    assert not [each for each in jobs.path.iterdir() if each.is_dir()]


def test_the_environment_of_the_effect_wins_and_nothing_else_comes_in(jobs: Site) -> None:
    jobs.launcher.around = Alone(values={"environment": {"PATH": "/bin", "A": "node"}})
    around = jobs.launcher.around
    kept = Alone.setup

    def setup(argv: tuple[str, ...], extra: dict[str, str], **changes: object) -> object:
        base = kept(around, argv, {}, **changes)
        return replace(base, environment={**base.environment, **extra})

    around.setup = setup  # type: ignore[method-assign,assignment]  # a node's way of merging
    ran = jobs.run(Job(name="a", exec="/usr/bin/env"), environment={"A": "job", "B": "1"})
    assert set(ran.out.split()) == {"PATH=/bin", "A=job", "B=1"}


def test_descriptors_of_events_are_where_the_job_is_told(jobs: Site, tmp_path: Path) -> None:
    fds = tuple(os.open(tmp_path / name, os.O_RDWR | os.O_CREAT) for name in "abc")
    job = Job(
        name="a",
        script='for n in 4 $UPSTART_FDS; do readlink /proc/self/fd/$n; done\necho "$UPSTART_FDS"',
    )
    ran = jobs.run(
        job,
        fds=fds[:2],
        further={4: fds[2]},
        environment={"UPSTART_FDS": f"{fds[0]} {fds[1]}"},
    )
    for fd in fds:
        os.close(fd)
    lines = ran.out.split("\n")
    assert [Path(line).name for line in lines[:3]] == ["c", "a", "b"]
    assert lines[3] == "3 5"


@ROOT_ONLY
def test_what_a_job_says_of_its_process_is_so(jobs: Site, tmp_path: Path) -> None:
    mine = f"/tmp/x-{os.getpid()}"
    job = Job(
        name="a",
        script=(
            "id -u; id -g; id -G; umask; nice; pwd; ulimit -n; cat /proc/self/oom_score_adj\n"
            f"grep -E 'CapEff|NoNewPrivs' /proc/self/status; touch /usr/x || touch {mine}"
        ),
        user="nobody",
        group="daemon",
        groups=("bin",),
        umask=0o077,
        nice=3,
        directory="/var",
        oom_score_adj=77,
        capabilities=("NET_RAW",),
        no_new_privs=True,
        limits=(ResourceLimit(resource="nofile", soft=33, hard=44),),
        readonly_paths=("/usr",),
        private_tmp=True,
    )
    ran = jobs.run(job)
    words = ran.out.replace("touch: cannot touch '/usr/x': Read-only file system", "ro").split()
    assert words[:8] == ["65534", "1", "1", "2", "0077", "3", "/var", "33"]
    assert words[8:] == ["77", "CapEff:", "0000000000002000", "NoNewPrivs:", "1", "ro"]
    assert (ran.status, ran.warnings) == (0, ())
    assert not Path(mine).exists()
    assert not (tmp_path / "private" / "job.a").exists(), "it goes with the instance"


def test_the_steps_of_an_instance_share_its_private_tmp_and_no_other_does(jobs: Site) -> None:
    job = Job(
        name="a",
        pre_start=Process(exec="touch /tmp/before"),
        exec="ls /tmp /var/tmp",
        private_tmp=True,
    )
    effect = jobs.spawn(job, step=Step.PRE_START, instance="x")
    got = jobs.launcher.launch(effect, stdio=(0, 1, 2))
    assert wait(got.pid, got.pidfd) == 0
    assert jobs.run(job, instance="y").out == "/tmp:\n\n/var/tmp:\n"
    assert jobs.run(job, instance="x").out == "/tmp:\nbefore\n\n/var/tmp:\n"
    assert jobs.run(job, instance="x").out == "/tmp:\n\n/var/tmp:\n", "a new one is empty"


def test_the_security_step_is_root_without_limits(jobs: Site) -> None:
    job = Job(
        name="a",
        security=Process(exec="id -u"),
        exec="true",
        user="65534",
        nice=5,
        chroot="/no/such",
    )
    assert jobs.run(job, step=Step.SECURITY).out == f"{os.geteuid()}\n"
    with pytest.raises(SpawnFailed, match="change root directory"):
        jobs.run(job)


def test_a_profile_without_apparmor_is_a_warning_of_the_main_process(jobs: Site) -> None:
    if Path("/sys/kernel/security/apparmor").exists():
        pytest.skip("here: this kernel has AppArmor")
    job = Job(name="a", exec="true", apparmor_switch="/usr/bin/$A", post_stop=Process(exec="true"))
    assert jobs.run(job).warnings == ("this kernel has no AppArmor for its profile /usr/bin/$A",)
    assert jobs.run(job, step=Step.POST_STOP).warnings == ()


def test_debug_stops_and_the_spawn_is_told_of_at_once(jobs: Site) -> None:
    _, got = jobs.launch(Job(name="a", exec="true", debug=True))
    _, status = os.waitpid(got.pid, os.WUNTRACED)
    assert os.WSTOPSIG(status) == signal.SIGSTOP
    os.kill(got.pid, signal.SIGCONT)
    assert wait(got.pid, got.pidfd) == 0


def test_a_failed_start_leaves_no_cgroup_and_no_descriptor(jobs: Site) -> None:
    before = os.listdir("/proc/self/fd")
    for job in (
        Job(name="a", exec="/no/such/program"),
        Job(name="a", exec="true", user="who-knows", resources=Resources(pids=5)),
        Job(name="a", exec="true", tcp_congestion="who-knows"),
    ):
        with pytest.raises((SpawnFailed, Unsupported)):
            jobs.run(job)
    assert os.listdir("/proc/self/fd") == before
    for place in (jobs.path, *jobs.v1.values()):
        assert place is None or not [each for each in place.iterdir() if each.is_dir()]


LISTEN_AND_CONNECT = """
import socket
TCP_CONGESTION = 13
with socket.create_server(("127.0.0.1", 0)) as server:
    with socket.create_connection(server.getsockname()) as client, server.accept()[0] as other:
        for one in (server, client, other):
            print(one.getsockopt(6, TCP_CONGESTION, 16).rstrip(b"\\0").decode())
"""


def test_congestion_control_is_a_jobs_own(jobs: Site) -> None:
    needs_v2()
    known = Path(sock_ops.AVAILABLE).read_text().split()
    usual = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    other = next((name for name in known if name != usual), None)
    if other is None:
        pytest.skip("here: this kernel has one congestion control only")
    plain = Job(name="a", argv=("/usr/bin/env", "python3", "-c", LISTEN_AND_CONNECT))
    try:
        ran = jobs.run(_with_congestion(plain, other))
    except Unsupported as error:
        pytest.skip(f"here: {error.message}")
    assert ran.out.split() == [other] * 3
    assert jobs.run(plain).out.split() == [usual] * 3


def _with_congestion(job: Job, name: str) -> Job:
    return Job(name=job.name, argv=job.argv, tcp_congestion=name)


def test_a_congestion_control_that_is_not_there_is_unsupported(jobs: Site, tmp_path: Path) -> None:
    job = Job(name="a", exec="true", tcp_congestion="who-knows")
    needs_v2()
    with pytest.raises(Unsupported, match="who-knows"):
        jobs.run(job)


def test_cgroup_stanzas_set_keys_of_the_jobs_own_group(jobs: Site) -> None:
    if "pids" not in jobs.v1:
        pytest.skip("here: no pids controller to set a key of")
    stanzas = (
        Cgroup(controller="pids", key="pids.max", value="$N"),
        Cgroup(controller="memory"),
        Cgroup(controller="memory", name="$UPSTART_CGROUP", key="limit_in_bytes", value="64M"),
        Cgroup(controller="cpu", name="shared", key="cpu.shares", value="512"),
        Cgroup(controller="freezer"),
    )
    job = Job(
        name="a",
        script=(
            "for c in pids memory cpu; do sed -n s/^.*:$c:.*://p /proc/self/cgroup; done\n"
            "grep -E ':(pids|memory|cpu):' /proc/self/cgroup\n"
        ),
        cgroups=stanzas,
    )
    effect = jobs.spawn(job, environment={"N": "17"})
    got = jobs.launcher.launch(effect, stdio=(0, 1, 2))
    values = {
        file: (jobs.v1[controller] / "job.a" / file).read_text().strip()
        for controller, file in (
            ("pids", "pids.max"),
            ("memory", "memory.limit_in_bytes"),
            ("cpu", "cpu.shares"),
        )
    }
    assert wait(got.pid, got.pidfd) == 0
    jobs.launcher.forget("a", "")
    assert values == {
        "pids.max": "17",
        "memory.limit_in_bytes": str(64 << 20),
        "cpu.shares": "512",
    }
    assert got.warnings == (
        "cgroup cpu shared: a job has a group of its own, not one that it shares",
        "cgroup freezer: only memory, cpu, pids are carried out",
    )


def test_without_any_cgroup_jobs_run_and_what_is_not_bounded_is_said(tmp_path: Path) -> None:
    with site(tmp_path, unified=False, v1=False) as jobs:
        ran = jobs.run(Job(name="a", exec="echo ok", resources=Resources(pids=5, memory_bytes=1)))
        assert ran.out == "ok\n"
        assert ran.warnings == (
            "nothing limits its memory: no cgroup here",
            "nothing limits its pids: no cgroup here",
        )
        known = Path(sock_ops.AVAILABLE).read_text().split()
        with pytest.raises(Unsupported, match="no cgroup"):
            jobs.run(Job(name="a", exec="true", tcp_congestion=known[0]))


def test_a_refused_priority_is_told_and_the_job_runs(jobs: Site) -> None:
    """As frr's `Nice=-5`, which stopped it in containers of plain users."""
    limit = ResourceLimit(resource="nofile", soft=1 << 40, hard=1 << 40)
    ran = jobs.run(Job(name="a", exec="echo ok", limits=(limit,)))
    assert ran.out == "ok\n"
    assert ran.warnings == (
        'unable to set "nofile" resource limit: Operation not permitted; it goes without',
    )


@ROOT_ONLY
def test_in_a_plain_users_namespace_a_job_has_its_sandbox_and_says_what_it_lacks(
    open_path: Path,
) -> None:
    """One user id, no cgroup, no right to raise anything: a lab's node of a plain user."""
    place = open_path / "theirs"
    place.mkdir()
    os.chown(place, 65534, 65534)
    prepare_to_spawn()
    pid, pidfd = clone3(0)
    if pid == 0:
        try:
            _become_plain_root()
            (place / "told").write_text(_as_plain_user(place))
        finally:
            os._exit(0)
    assert wait(pid, pidfd) == 0
    assert (place / "told").read_text().splitlines() == [
        "0 0 ro mine 0000000000000400",
        "unable to set priority: Permission denied; it goes without",
        "nothing limits its pids: no cgroup here",
        "setgid: a lab of a plain user has one user id; `hostlab doctor` says how to get more",
    ]


def _become_plain_root() -> None:
    """Root of a user namespace that a plain user has made."""
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    unshare(CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", "0 65534 1"), ("gid_map", "0 65534 1")):
        Path(f"/proc/self/{name}").write_text(text)


def _as_plain_user(place: Path) -> str:
    job = Job(
        name="a",
        script=(
            "touch /tmp/mine\necho $(id -u) $(id -g) $(touch /usr/x 2>/dev/null || echo ro)"
            " $(ls /tmp) $(sed -n 's/CapEff:.//p' /proc/self/status)\n"
        ),
        user="root",
        nice=-3,
        private_tmp=True,
        readonly_paths=("/usr",),
        capabilities=("NET_BIND_SERVICE",),
        resources=Resources(pids=9),
    )
    with site(place, unified=False, v1=False) as jobs:
        ran = jobs.run(job)
        text = "\n".join((ran.out.strip(), *sorted(ran.warnings, reverse=True)))
        try:
            jobs.run(Job(name="b", exec="true", user="nobody"))
        except SpawnFailed as failed:
            text += f"\n{failed.step}: {failed.hint}"
    return text


@ROOT_ONLY
def test_a_job_of_another_user_may_open_its_output(jobs: Site) -> None:
    ran = jobs.run(Job(name="a", script="echo again > /dev/stdout", user="65534"))
    assert (ran.status, ran.out) == (0, "again\n")


def test_a_job_has_the_usual_limit_of_open_files(jobs: Site) -> None:
    assert jobs.run(Job(name="a", script="ulimit -Sn")).out == "1024\n"
