"""The lines in which Upstart tells of a job: what `initctl status` and `list` print.

ssh start/running, process 812
tty (tty1) start/post-start, process 1234
    post-start process 1357
foo stop/waiting
"""

from __future__ import annotations

from collections.abc import Iterator

from hostlab.jobs.engine import Engine
from hostlab.jobs.instance import Instance
from hostlab.spec.job import Step

ORDER = (
    Step.MAIN,
    Step.PRE_START,
    Step.POST_START,
    Step.PRE_STOP,
    Step.POST_STOP,
    Step.SECURITY,
    Step.RELOAD,
)
"""In which processes are told of (init/process.h), and ours after them."""
_BARE = (Step.MAIN, Step.PRE_START, Step.POST_STOP)
"""The steps that are alone when they run, so that their line need not name them."""


def status_lines(job: str, instance: Instance | None) -> list[str]:
    """An instance's lines; None is a job that has none."""
    if instance is None:
        return [f"{job} stop/waiting"]
    processes = list(_processes(instance))
    line = f"{instance} {instance.goal}/{instance.state}"
    for step, pid in processes[:1]:
        line += f", process {pid}" if step in _BARE else f", ({step}) process {pid}"
    return [line, *(f"\t{step} process {pid}" for step, pid in processes[1:])]


def list_lines(engine: Engine) -> Iterator[str]:
    """The lines of every job, by name; a job without an instance has one too."""
    for name in sorted(engine.classes):
        instances = engine.classes[name].instances
        if not instances:
            yield from status_lines(name, None)
        for key in sorted(instances):
            yield from status_lines(name, instances[key])


def _processes(instance: Instance) -> Iterator[tuple[Step, int]]:
    for step in ORDER:
        running = instance.processes.get(step)
        if running is not None and running.pid is not None:
            yield step, running.pid
