"""Conditions of units, judged where the test runs."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from hostlab.init.unit_conditions import judge
from hostlab.spec.job import Requirement
from hostlab.spec.systemd.conditions import KINDS, UNJUDGED

pytestmark = pytest.mark.unit


def holds(kind: str, value: str) -> bool:
    return judge([Requirement(kind=kind, value=value)]).holds


def test_paths(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").touch()
    (tmp_path / "program").touch(mode=0o755)
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "none").mkdir()
    table = {
        ("PathExists", "file"): True, ("PathExists", "absent"): False,
        ("PathExistsGlob", "fi*"): True, ("PathExistsGlob", "ab*"): False,
        ("PathIsDirectory", "none"): True, ("PathIsDirectory", "file"): False,
        ("PathIsSymbolicLink", "link"): True, ("PathIsSymbolicLink", "file"): False,
        ("PathIsMountPoint", "none"): False, ("PathIsReadWrite", "none"): True,
        ("DirectoryNotEmpty", ""): True, ("DirectoryNotEmpty", "none"): False,
        ("DirectoryNotEmpty", "absent"): False,
        ("FileNotEmpty", "file"): True, ("FileNotEmpty", "empty"): False,
        ("FileIsExecutable", "program"): True, ("FileIsExecutable", "file"): False,
        ("PathIsSocket", "file"): False,
    }  # fmt: skip
    found = {(kind, name): holds(kind, f"{tmp_path}/{name}") for kind, name in table}
    assert found == table


def test_the_node() -> None:
    release = platform.release()
    assert holds("KernelVersion", ">=3.0 <99")
    assert holds("KernelVersion", ">= 3.0")
    assert holds("KernelVersion", release[:3] + "*")
    assert not holds("KernelVersion", "<3.0")
    assert holds("Virtualization", "container")
    assert not holds("Virtualization", "vm")
    assert holds("Host", platform.node().upper())
    assert holds("User", str(os.geteuid()))
    assert holds("CPUs", ">=1")
    assert not holds("CPUs", "<1")
    assert holds("Memory", "1M")
    assert holds("ACPower", "true")
    assert not holds("FirstBoot", "yes")
    assert not holds("CPUs", "many")


def test_negation_and_triggers() -> None:
    yes, no = ("PathExists", "/"), ("PathExists", "/no/such")

    def judged(*parts: tuple[tuple[str, str], str]) -> bool:
        return judge(
            Requirement(kind=kind, value=value, negated="!" in marks, triggering="|" in marks)
            for (kind, value), marks in parts
        ).holds

    assert judged((no, "!"))
    assert not judged((yes, "!"))
    assert judged((no, "|"), (yes, "|"))
    assert not judged((no, "|"), (no, "|"), (yes, ""))
    assert not judged((yes, "|"), (no, ""))
    assert judged()


def test_an_assertion_is_told_from_a_condition() -> None:
    found = judge([Requirement(kind="PathExists", value="/no/such", asserted=True)])
    assert (found.holds, found.asserted) == (False, True)
    assert found.why == "AssertPathExists=/no/such does not hold"


def test_every_kind_is_judged_or_told_not_to_be() -> None:
    told = {kind for kind in KINDS if judge([Requirement(kind=kind, value="/x")]).warnings}
    assert told == UNJUDGED


def test_what_cannot_be_judged_holds_with_a_warning() -> None:
    found = judge([Requirement(kind="CPUFeature", value="x")])
    assert (found.holds, len(found.warnings)) == (True, 1)
