"""The lines of initctl(8), each as its manual has it."""

from __future__ import annotations

import pytest

from hostlab.jobs import facts
from hostlab.jobs.status import list_lines, status_lines
from hostlab.spec.job import Step
from tests.unit.jobs.jobs_world import World

pytestmark = pytest.mark.unit


def lines(world: World, job: str, name: str = "") -> str:
    return "\n".join(status_lines(job, world.engine.instance(job, name)))


def spawned(world: World, job: str, step: Step, pid: int, name: str = "") -> None:
    world.tell(facts.Spawned(spawn=world.spawn_number(job, step, name), pid=pid))


def test_a_main_process() -> None:
    world = World(job="exec sleep 1")
    world.start("job")
    spawned(world, "job", Step.MAIN, 1234)
    assert lines(world, "job") == "job start/running, process 1234"


def test_no_instance() -> None:
    assert lines(World(foo="exec true"), "foo") == "foo stop/waiting"


def test_a_job_without_processes() -> None:
    world = World(job="description x")
    world.start("job")
    assert lines(world, "job") == "job start/running"


def test_a_process_without_a_pid_is_not_told_of() -> None:
    world = World(job="exec sleep 1")
    world.start("job")
    assert lines(world, "job") == "job start/spawned"


def test_pre_start_stands_bare() -> None:
    world = World(job="pre-start exec true\nexec sleep 1")
    world.start("job")
    spawned(world, "job", Step.PRE_START, 902)
    assert lines(world, "job") == "job start/pre-start, process 902"


def test_post_stop_stands_bare() -> None:
    world = World(job="post-stop exec true")
    world.start("job")
    world.stop("job")
    spawned(world, "job", Step.POST_STOP, 903)
    assert lines(world, "job") == "job stop/post-stop, process 903"


def test_post_start_stands_below_main() -> None:
    world = World(job="post-start exec true\nexec sleep 1")
    world.start("job")
    spawned(world, "job", Step.MAIN, 1234)
    spawned(world, "job", Step.POST_START, 1357)
    expected = "job start/post-start, process 1234\n\tpost-start process 1357"
    assert lines(world, "job") == expected


def test_post_start_alone_says_what_it_is() -> None:
    world = World(job="post-start exec true")
    world.start("job")
    spawned(world, "job", Step.POST_START, 1357)
    assert lines(world, "job") == "job start/post-start, (post-start) process 1357"


def test_an_instance_stands_in_parentheses() -> None:
    world = World(job="instance $TTY\npost-start exec true\nexec sleep 1")
    world.start("job", TTY="tty1")
    spawned(world, "job", Step.MAIN, 1234, "tty1")
    spawned(world, "job", Step.POST_START, 1357, "tty1")
    expected = "job (tty1) start/post-start, process 1234\n\tpost-start process 1357"
    assert lines(world, "job", "tty1") == expected


def test_list_has_every_instance_and_every_job_without_one() -> None:
    world = World(tty="instance $TTY\nexec sleep 1", foo="exec true", bar="exec true")
    for name, pid in (("tty2", 12), ("tty1", 11)):
        world.start("tty", TTY=name)
        spawned(world, "tty", Step.MAIN, pid, name)
    assert list(list_lines(world.engine)) == [
        "bar stop/waiting",
        "foo stop/waiting",
        "tty (tty1) start/running, process 11",
        "tty (tty2) start/running, process 12",
    ]
