"""get-env, set-env and their kin: of a job, and of every job."""

from __future__ import annotations

import pytest

from hostlab.init.initctl.surroundings import Answer
from tests.initctl_site import Caller, Site

pytestmark = pytest.mark.unit

INSIDE = {"UPSTART_JOB": "tty", "UPSTART_INSTANCE": "a"}


@pytest.fixture
def call() -> Caller:
    """Two instances run, of which `a` asks."""
    caller = Caller(Site({"tty": "instance $TTY\nenv OWN=x\nexec sleep 1"}, obeys=True))
    caller("start", "tty", "TTY=a")
    caller("start", "tty", "TTY=b")
    return caller


def env(call: Caller, name: str) -> dict[str, str]:
    instance = call.site.engine.instance("tty", name)
    assert instance is not None
    return instance.environment


def test_list_is_sorted(call: Caller) -> None:
    assert call("initctl", "list-env").out == "PATH=/bin\nTERM=linux\n"
    inside = call("initctl", "list-env", **INSIDE)
    assert inside.out == "OWN=x\nPATH=/bin\nTERM=linux\nTTY=a\n"
    assert call("initctl", "list-env", "-g", **INSIDE).out == "PATH=/bin\nTERM=linux\n"


def test_get(call: Caller) -> None:
    assert call("initctl", "get-env", "PATH") == Answer(0, "/bin\n")
    assert call("initctl", "get-env", "TTY", **INSIDE) == Answer(0, "a\n")
    missing = Answer(1, err="initctl: No such variable: TTY\n")
    assert call("initctl", "get-env", "TTY") == missing
    assert call("initctl", "get-env", "--global", "TTY", **INSIDE) == missing
    assert "missing variable name" in call("initctl", "get-env").err
    assert call("initctl", "get-env", "").err == "initctl: Variable may not be empty string\n"


def test_set_within_a_job_is_that_job_s(call: Caller) -> None:
    assert call("initctl", "set-env", "A=1", "B", **INSIDE) == Answer()
    assert env(call, "a")["A"] == "1"
    assert env(call, "a")["B"] == ""
    assert "A" not in env(call, "b")
    assert "A" not in call.site.engine.environment


@pytest.mark.parametrize(("options", "where"), [((), {}), (("--global",), INSIDE)])
def test_set_for_all_is_of_those_that_run_too(
    call: Caller, options: tuple[str, ...], where: dict[str, str]
) -> None:
    call("initctl", "set-env", *options, "A=x=y", **where)
    assert [env(call, name)["A"] for name in "ab"] == ["x=y", "x=y"]
    assert call.site.engine.environment["A"] == "x=y"


def test_retain_keeps_what_is_there(call: Caller) -> None:
    call("initctl", "set-env", "--retain", "PATH=/x", "NEW=1")
    assert call("initctl", "list-env").out == "NEW=1\nPATH=/bin\nTERM=linux\n"


def test_unset(call: Caller) -> None:
    assert call("initctl", "unset-env", "OWN", "UNKNOWN", **INSIDE) == Answer()
    assert "OWN" not in env(call, "a")
    assert "OWN" in env(call, "b")
    call("initctl", "unset-env", "TERM")
    assert "TERM" not in env(call, "b")
    assert call("initctl", "list-env").out == "PATH=/bin\n"


def test_reset_of_a_job(call: Caller) -> None:
    call("initctl", "set-env", "A=1", "OWN=y", **INSIDE)
    assert call("initctl", "reset-env", **INSIDE) == Answer()
    assert env(call, "a") == {"PATH": "/bin", "TERM": "linux", "OWN": "x"}


def test_reset_of_all_leaves_those_that_run(call: Caller) -> None:
    call("initctl", "set-env", "A=1", "TERM=vt100")
    call("initctl", "reset-env")
    assert call("initctl", "list-env").out == "PATH=/bin\nTERM=linux\n"
    assert env(call, "a")["A"] == "1"


def test_a_job_that_is_gone(call: Caller) -> None:
    gone = {"UPSTART_JOB": "tty", "UPSTART_INSTANCE": "z"}
    text = "initctl: Unknown instance: z of job tty\n"
    assert call("initctl", "set-env", "A=1", **gone) == Answer(1, err=text)
    nameless = call("initctl", "list-env", UPSTART_JOB="", UPSTART_INSTANCE="")
    assert nameless == Answer(1, err="initctl: Job may not be empty string\n")
    assert "missing job name" in call("initctl", "list-env", UPSTART_JOB="tty").err


def test_nothing_to_set(call: Caller) -> None:
    assert "missing variable value" in call("initctl", "set-env").err
    assert "missing variable value" in call("initctl", "unset-env").err
    assert call("initctl", "set-env", "=x").err == "initctl: Variable may not be empty string\n"
