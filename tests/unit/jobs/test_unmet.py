"""What a job of a description waits for in vain."""

from __future__ import annotations

import pytest

from hostlab.jobs.unmet import unmet
from hostlab.spec import load

pytestmark = pytest.mark.unit


def said_of(keys: str) -> list[str]:
    lab = load(f"nodes: {{a: {keys}}}\n", file="lab.yaml")
    return [str(each) for each in unmet(lab.node("a"))]


@pytest.mark.parametrize(
    "jobs",
    [
        "web: x",
        "web: {exec: x, start_on: 'filesystem and runlevel [2345]', stop_on: 'runlevel [!2345]'}",
        "web: {exec: x, start_on: deconfiguring-networking or control-alt-delete}",
        "db: x, web: {exec: x, start_on: started db, stop_on: stopping JOB=d*}",
        "db: x, web: {exec: x, start_on: started $WHICH or stopped}",
        "db: {exec: x, emits: 'log-*'}, web: {exec: x, start_on: log-in}",
        "db: {exec: x, post_start: initctl emit -n ready-now A=b}, "
        "web: {exec: x, start_on: ready-now}",
    ],
)
def test_what_something_emits_is_not_in_vain(jobs: str) -> None:
    assert said_of(f"{{jobs: {{{jobs}}}}}") == []


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("{jobs: {w: {exec: x, start_on: filesystms}}}",
         "`start on` of the job `w`: nothing emits `filesystms`; did you mean `filesystem`?"),
        ("{jobs: {w: {exec: x, stop_on: never-heard-of}}}",
         "`stop on` of the job `w`: nothing emits `never-heard-of`"),
        ("{jobs: {dbus: x, w: {exec: x, start_on: started dbsu}}}",
         "`start on` of the job `w`: there is no job `dbsu`; did you mean `dbus`?"),
        ("{boot: false, jobs: {w: {exec: x, start_on: startup or filesystem}}}",
         "`start on` of the job `w`: nothing emits `filesystem`"),
        ("{boot: {events: [go]}, jobs: {w: {exec: x, start_on: go and local-filesystems}}}",
         "`start on` of the job `w`: nothing emits `local-filesystems`"),
    ],
)  # fmt: skip
def test_what_waits_in_vain(keys: str, words: str) -> None:
    assert said_of(keys) == [words]


def test_it_has_its_place() -> None:
    lab = load(
        "nodes:\n  a:\n    jobs:\n      w:\n        exec: x\n        start_on: y\n", file="f"
    )
    (found,) = unmet(lab.node("a"))
    assert found.said is not None
    assert (found.said.file, found.said.line) == ("f", 6)


def test_of_a_node_with_job_files_nothing_is_known() -> None:
    assert said_of("{job_files: /etc/init, jobs: {w: {exec: x, start_on: y}}}") == []
