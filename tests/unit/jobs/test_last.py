"""How a job last ended, when its instance is gone."""

from __future__ import annotations

import pytest

from hostlab.jobs import facts
from hostlab.jobs.classes import Last
from hostlab.jobs.snapshot import capture, decode, encode, restore
from hostlab.spec.job import Step
from tests.unit.jobs.jobs_world import World

pytestmark = pytest.mark.unit


def last(world: World, job: str) -> Last | None:
    """As the next supervisor knows it."""
    world.engine = restore(decode(encode(capture(world.engine))))
    return world.engine.classes[job].last


def test_a_job_that_never_ran_has_no_end() -> None:
    world = World(j="exec x\n")
    assert last(world, "j") is None
    world.running("j")
    assert last(world, "j") is None


def test_a_stop_that_was_asked_for() -> None:
    world = World(j="exec x\n")
    world.running("j")
    world.stop("j")
    world.killed("j")
    assert last(world, "j") == Last(main_status=15 << 8)


def test_a_failure_says_which_step_and_how() -> None:
    world = World(j="exec x\npost-stop exec p\n")
    world.running("j")
    world.exits("j", status=3)
    world.does("j", Step.POST_STOP, status=4)
    assert last(world, "j") == Last(
        failed=True, failed_step=Step.MAIN, exit_status=3, main_status=3
    )


def test_a_step_that_fails_beside_a_main_process_that_does_not() -> None:
    world = World(j="exec x\npost-stop exec p\n")
    world.running("j")
    world.stop("j")
    world.exits("j")
    world.does("j", Step.POST_STOP, status=4)
    assert last(world, "j") == Last(
        failed=True, failed_step=Step.POST_STOP, exit_status=4, main_status=0
    )


def test_a_program_that_cannot_be_started() -> None:
    world = World(j="instance $I\nexec x\n")
    world.start("j", I="7")
    world.tell(facts.SpawnFailed(spawn=1, step="execve", errno=2))
    expected = Last(instance="7", failed=True, failed_step=Step.MAIN, trouble="execve")
    assert last(world, "j") == expected


def test_a_job_that_respawns_too_fast() -> None:
    world = World(j="exec x\nrespawn\nrespawn limit 1 5\n")
    world.running("j")
    world.exits("j", status=2)
    world.runs("j")
    world.exits("j", status=2)
    assert last(world, "j") == Last(failed=True, main_status=2)


def test_the_next_run_forgets_it_only_when_it_ends() -> None:
    world = World(j="exec x\n")
    world.running("j")
    world.exits("j", status=3)
    world.load("j", "exec y\n")
    world.running("j")
    before = last(world, "j")
    assert before is not None
    assert before.failed
    world.exits("j")
    assert last(world, "j") == Last(main_status=0)


def test_a_restart_that_fails_early_has_no_main_process() -> None:
    world = World(j="exec x\npre-start exec p\n")
    world.start("j")
    world.does("j", Step.PRE_START)
    world.runs("j")
    world.restart("j")
    world.killed("j")
    world.does("j", Step.PRE_START, status=1)
    assert last(world, "j") == Last(failed=True, failed_step=Step.PRE_START, exit_status=1)
