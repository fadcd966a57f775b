"""Which file a job's log is: of its one instance, or of the one that is named."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import click

from hostlab.errors import UsageError
from hostlab.init.logs.policy import log_name

if TYPE_CHECKING:
    from hostlab.init.client import InitClient

SUFFIX = ".log"


def instance_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--instance`."""
    text = "Of a job with `instance`: the one of this name."
    return click.option("--instance", default="", help=text)(function)


def log_of(init: InitClient, job: str, instance: str, jobs: Collection[str]) -> str:
    """The file with what an instance of a job wrote, there or not yet.

    `jobs` are all of this init. UsageError when it is none, or when only other instances have logs.
    """
    if job not in jobs:
        hint = f"jobs of this node: {', '.join(sorted(set(jobs))) or 'none'}"
        raise UsageError("no-job", f"no job {job!r} on {init.name}", hint=hint)
    path = init.log_path(job, instance)
    others = [] if os.path.exists(path) else _instances(os.path.dirname(path), job, jobs)
    if others:
        message = f"{job} has a log for each instance: {', '.join(others)}"
        raise UsageError("which-instance", message, hint=f"name one: --instance {others[0]}")
    return path


def _instances(directory: str, job: str, jobs: Collection[str]) -> list[str]:
    """The instances of a job that have a log, by the names of the files."""
    begin = f"{log_name(job)}-"
    # `a-b` is an instance of `a`, unless it is a job.
    longer = tuple(name for each in jobs if (name := log_name(each)).startswith(begin))
    try:
        names = [name.removesuffix(SUFFIX) for name in os.listdir(directory)
                 if name.startswith(begin) and name.endswith(SUFFIX)]  # fmt: skip
    except FileNotFoundError:
        return []
    return sorted(
        name.removeprefix(begin)
        for name in names
        if not any(name == each or name.startswith(f"{each}-") for each in longer)
    )
