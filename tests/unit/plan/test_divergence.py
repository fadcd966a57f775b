"""What a description says otherwise than another, for people."""

from __future__ import annotations

import pytest

from hostlab.plan.divergence import beside, changed_checks, divergence
from hostlab.spec import load
from hostlab.spec.model import Lab

pytestmark = pytest.mark.unit

CHECKS = """
- {on: client, http: "http://server/"}
- {on: client, ping: server}
"""


def lab(*, job: str = "one", checks: str = CHECKS, rest: str = "") -> Lab:
    text = (
        f"name: web\nnodes:\n  server: {{jobs: {{web: {job}}}}}\n  client:\n{rest}checks:{checks}"
    )
    return load(text, file="web.yaml")


def test_nothing_differs_where_lines_have_moved() -> None:
    moved = lab(checks="\n\n" + CHECKS)
    assert moved.checks != lab().checks
    assert divergence(lab(), moved) == ""
    assert beside(lab(), moved) == ()


def test_a_job_is_named_with_its_node_and_checks_are_counted() -> None:
    other = lab(job="two", checks=CHECKS.replace("ping", "reaches"))
    assert divergence(lab(), other) == "job server/web, 1 check"


@pytest.mark.parametrize(
    ("checks", "count"),
    [
        (CHECKS + '- {on: client, ping: "::1"}\n', 1),
        ("\n- {on: client, ping: server}\n", 1),
        ("\n- {on: server, ping: client}\n- {on: server, listens: 80}\n", 2),
    ],
)
def test_a_check_that_comes_goes_or_is_edited_is_one(checks: str, count: int) -> None:
    assert changed_checks(lab(), lab(checks=checks)) == count
    assert changed_checks(lab(checks=checks), lab()) == count


def test_faults_differ_without_an_operation() -> None:
    faults = "faults: [{at: 1s, do: node-frozen, on: server, for: 1s}]\n"
    assert beside(lab(), lab(rest=faults)) == ("faults",)


def test_of_many_differences_three_are_told() -> None:
    nodes = "  a:\n  b:\n  c:\n"
    assert divergence(lab(), lab(job="two", rest=nodes)).endswith("more")
    assert divergence(lab(), lab(job="two", rest=nodes)).count(",") == 2
