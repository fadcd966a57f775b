"""What a supervisor that died may have left undone, worked out from the state that it stored.

A supervisor stores a fact before it carries out what the fact led to. When it dies in between,
the next one finds a state in which something has been wanted that was perhaps never done. Both
answers are worked out from the state alone, so they hold whenever it died; what had been done is
the caller's to know: it asks the holder which of the spawn numbers it has seen.

- A process that was never told `Spawned` may never have been started, or may run, or may have
  ended already.
- A signal may not have been sent. Sending it once more harms nobody: the process has been told
  to end, or to go on.
"""

from __future__ import annotations

from collections.abc import Iterator

from hostlab.jobs.effects import Kill, Spawn
from hostlab.jobs.engine import Engine
from hostlab.jobs.instance import Instance
from hostlab.jobs.machine import SIGCONT, SIGKILL, kill_scope
from hostlab.jobs.states import State
from hostlab.spec.job import Expect, KillMode


def unspawned(engine: Engine) -> tuple[Spawn, ...]:
    """The `Spawn` of each process that was never told `Spawned` or `SpawnFailed`, oldest first."""
    found = [
        Spawn(
            spawn=running.spawn,
            job=instance.job,
            instance=instance.name,
            step=step,
            process=process,
            environment=instance.process_environment(step),
            fds=instance.fds,
        )
        for instance in _instances(engine)
        for step, running in instance.processes.items()
        if running.pid is None and (process := instance.job.process(step)) is not None
    ]
    return tuple(sorted(found, key=lambda each: each.spawn))


def unsent(engine: Engine) -> tuple[Kill, ...]:
    """The signals to send again.

    The last one to each instance that is being killed, and SIGCONT to a main process that has
    said by SIGSTOP that it is ready: without it, it would stand still for ever.
    """
    found: list[Kill] = []
    for instance in _instances(engine):
        if instance.state is State.KILLED:
            found += _ending(instance)
        elif instance.state is not State.SPAWNED and instance.job.readiness.kind is Expect.STOP:
            found += _continuing(instance)
    return tuple(found)


def _instances(engine: Engine) -> Iterator[Instance]:
    for each in engine.classes.values():
        yield from each.instances.values()


def _ending(instance: Instance) -> Iterator[Kill]:
    """What it was told when it entered `killed`, or, its time being over, SIGKILL."""
    main = instance.main
    spawn = main.spawn if main is not None else instance.group
    if spawn is None:
        return
    mode = instance.job.kill.mode
    # Of a cgroup without its main process, `mixed` spares nobody.
    last = instance.kill_at is None or (main is None and mode is KillMode.MIXED)
    yield Kill(
        spawn=spawn,
        pid=main.pid if main is not None else None,
        signal=SIGKILL if last else instance.job.kill.signal,
        scope=kill_scope(mode, last=last),
    )


def _continuing(instance: Instance) -> Iterator[Kill]:
    main = instance.main
    if main is not None and main.pid is not None:
        yield Kill(spawn=main.spawn, pid=main.pid, signal=SIGCONT, scope=KillMode.PROCESS)
