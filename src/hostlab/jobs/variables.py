"""Variables of the tables that jobs get their environment from (`initctl set-env`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hostlab.errors import UsageError
from hostlab.jobs.facts import SetVariable

if TYPE_CHECKING:
    from hostlab.jobs.engine import Engine


def set_variable(engine: Engine, fact: SetVariable) -> None:
    """Change every table that is meant (init/job_class.c, job_class_environment_set())."""
    tables = [engine.environment]
    if fact.job is not None:
        if fact.job not in engine.classes:
            raise UsageError("unknown-job", f"Unknown job: {fact.job}")
        instance = engine.instance(fact.job, fact.instance)
        if instance is None:
            text = f"Unknown instance: {fact.instance} of job {fact.job}"
            raise UsageError("unknown-instance", text)
        tables = [instance.environment]
    elif fact.running:
        instances = (each for one in engine.classes.values() for each in one.instances.values())
        tables += [instance.environment for instance in instances]
    for table in tables:
        if fact.value is None:
            table.pop(fact.name, None)
        else:
            table[fact.name] = fact.value
