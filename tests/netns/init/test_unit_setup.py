"""What a unit's job wants before its processes start, by the launcher on the real kernel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostlab.init.spawning.process import SpawnFailed
from hostlab.spec.job import Command, Directory, EnvironmentFile, Job, Process, Step
from tests.netns.init.job_site import Site, site

pytestmark = pytest.mark.netns
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this")


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as found:
        yield found


def test_commands_see_the_variables_of_files_above_those_of_the_job(
    jobs: Site, tmp_path: Path
) -> None:
    (tmp_path / "one").write_text("A='1 2'\nB=file\nno assignment\n")
    files = (
        EnvironmentFile(path=str(tmp_path / "none"), optional=True),
        EnvironmentFile(path=f"{tmp_path}/on*"),
    )
    commands = (
        Command(argv=("/usr/bin/false",), ignore_failure=True),
        Command(argv=("/usr/bin/printf", "[%s]", "$A", "${A}", "$B", "it's"), expand=True),
    )
    ran = jobs.run(Job(name="a", commands=commands, environment_files=files))
    assert (ran.out, ran.status) == ("[1][2][1 2][file][it's]", 0)
    assert len(ran.warnings) == 1
    assert "no assignment" in ran.warnings[0]


def test_a_file_that_must_be_there_and_is_not_fails_the_start(jobs: Site, tmp_path: Path) -> None:
    files = (EnvironmentFile(path=str(tmp_path / "none")),)
    with pytest.raises(SpawnFailed) as caught:
        jobs.run(Job(name="a", exec="true", environment_files=files))
    assert caught.value.step == "read environment file"


@ROOT_ONLY
def test_directories_are_the_users_and_those_of_a_run_go_with_it(
    jobs: Site, tmp_path: Path
) -> None:
    run, state = tmp_path / "run" / "a", tmp_path / "state"
    directories = (
        Directory(path=str(run), mode=0o750, kept=False),
        Directory(path=str(state), mode=0o700),
    )
    job = Job(name="a", user="65534", directories=directories, exec="true")
    assert jobs.run(job, keep=True).status == 0
    found = [each.stat() for each in (run, state)]
    assert [(each.st_uid, each.st_gid, each.st_mode & 0o7777) for each in found] == [
        (65534, 65534, 0o750), (65534, 65534, 0o700),
    ]  # fmt: skip
    (run / "file").touch()
    jobs.launcher.forget("a", "")
    assert (run.exists(), run.parent.exists(), state.exists()) == (False, True, True)


@ROOT_ONLY
def test_a_link_is_not_taken_for_a_directory(jobs: Site, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "link").symlink_to(target)
    directories = (Directory(path=str(tmp_path / "link"), mode=0o777),)
    with pytest.raises(SpawnFailed):
        jobs.run(Job(name="a", user="nobody", exec="true", directories=directories))
    assert target.stat().st_uid == 0


@ROOT_ONLY
def test_a_privileged_step_is_roots(jobs: Site) -> None:
    job = Job(
        name="a", user="nobody", exec="id -u",
        pre_start=Process(commands=(Command(argv=("id", "-u")),), privileged=True),
    )  # fmt: skip
    assert jobs.run(job).out == f"{65534}\n"
    assert jobs.run(job, step=Step.PRE_START).out == "0\n"


@ROOT_ONLY
def test_a_main_process_that_changes_its_user_itself_is_roots(jobs: Site, tmp_path: Path) -> None:
    state = tmp_path / "state"
    said = "id -u; grep -h CapEff /proc/self/status"
    job = Job(
        name="a", user="nobody", main_is_root=True, capabilities=("CHOWN",), script=said,
        pre_start=Process(script=said), directories=(Directory(path=str(state)),),
    )  # fmt: skip
    assert jobs.run(job).out.split() == ["0", "CapEff:", f"{1:016x}"]
    assert jobs.run(job, step=Step.PRE_START).out.split() == ["65534", "CapEff:", f"{0:016x}"]
    assert state.stat().st_uid == 65534


@ROOT_ONLY
def test_a_path_that_may_be_missing_is_no_obstacle(jobs: Site, tmp_path: Path) -> None:
    paths = (f"-{tmp_path}/none", f"-{tmp_path}")
    job = Job(name="a", argv=("/usr/bin/touch", f"{tmp_path}/x"), readonly_paths=paths)
    assert jobs.run(job).status != 0
    with pytest.raises(SpawnFailed):
        jobs.run(Job(name="a", exec="true", readonly_paths=(f"{tmp_path}/none",)))


@ROOT_ONLY
def test_the_user_of_a_unit_finds_its_home(jobs: Site) -> None:
    commands = (Command(argv=("/usr/bin/printf", "%s", "${HOME}:${SHELL}"), expand=True),)
    job = Job(name="a", user="daemon", commands=commands)
    assert jobs.run(job).out == "/usr/sbin:/usr/sbin/nologin"
    said = Job(name="a", user="daemon", commands=commands, environment=(("HOME", "/x"),))
    assert jobs.run(said, environment=said.environment).out == "/x:/usr/sbin/nologin"
