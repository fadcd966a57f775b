"""What a job says of others, changed while it runs.

How a job's processes run stays as it was started. But a unit that comes later may be ordered before
one that runs, or conflict with it (`Load.related`); that is a matter of the moment in which
something starts or stops, so it counts at once.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from hostlab.jobs.classes import JobClass
from hostlab.jobs.expression import Progress
from hostlab.jobs.instance import Instance
from hostlab.jobs.listeners import Index
from hostlab.spec.job import Job

Reset = Callable[[JobClass | Instance, Progress[int]], None]


def relate(found: JobClass, job: Job, index: Index[JobClass | Instance], reset: Reset) -> None:
    """Give a class and its instances the conditions and the order of a newer description."""
    related = msgspec.structs.replace(
        found.job,
        start_on=job.start_on,
        stop_on=job.stop_on,
        after=job.after,
        requires=job.requires,
    )
    if related == found.job:
        return
    if found.start_on is not None:
        index.remove(found.start_order, found.start_on.tree)
        reset(found, found.start_on)
    for instance in found.instances.values():
        if instance.stop_on is not None:
            index.remove(found.stop_order(instance), instance.stop_on.tree)
            reset(instance, instance.stop_on)
    found.take(related)
    if found.start_on is not None:
        index.add(found.start_order, found.start_on.tree, found)
    for instance in found.instances.values():
        instance.job = related
        instance.stop_on = Progress(found.stop_tree) if found.stop_tree else None
        if instance.stop_on is not None:
            index.add(found.stop_order(instance), instance.stop_on.tree, instance)
