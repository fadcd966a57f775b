"""initctl's commands on a real engine: texts, statuses, what they wait for."""

from __future__ import annotations

import pytest

from hostlab.init.initctl.surroundings import Answer
from hostlab.jobs import facts
from hostlab.spec.job import Step
from tests.initctl_site import Caller, Site

pytestmark = pytest.mark.unit

CONFS = {
    "foo": "exec sleep 1",
    "tty": 'instance $TTY\nusage "tty TTY=ttyX - where X is console id"\nexec sleep 1',
}


def calling(confs: dict[str, str] | None = None, *, obeys: bool = True) -> Caller:
    return Caller(Site(CONFS if confs is None else confs, obeys=obeys))


def test_start_waits_until_it_runs_and_tells_its_status() -> None:
    call = calling(obeys=False)
    answer = call.while_waiting(call.command("start", "foo"), lambda: call.site.runs("foo"))
    assert answer == Answer(0, "foo start/running, process 1234\n")


def test_stop_waits_until_it_has_ended() -> None:
    call = calling(obeys=False)
    call.while_waiting(call.command("start", "foo"), lambda: call.site.runs("foo"))
    answer = call.while_waiting(call.command("stop", "foo"), lambda: call.site.exits("foo"))
    assert answer == Answer(0, "foo stop/waiting\n")


@pytest.mark.parametrize("option", ["-n", "--no-wait"])
def test_no_wait_does_not(option: str) -> None:
    call = calling(obeys=False)
    assert call("start", option, "foo") == Answer(0, "foo start/spawned\n")
    assert call("initctl", "stop", option, "foo") == Answer(0, "foo stop/spawned\n")


def test_a_job_that_fails_to_start() -> None:
    call = calling({"foo": "pre-start exec false\nexec sleep 1"}, obeys=False)
    command = call.command("start", "foo")

    def fails() -> None:
        call.site.runs("foo", Step.PRE_START)
        call.site.exits("foo", Step.PRE_START, status=1)

    assert call.while_waiting(command, fails) == Answer(1, err="start: Job failed to start\n")


def test_start_of_what_runs() -> None:
    call = calling()
    call("start", "tty", "TTY=tty1")
    assert call("start", "tty", "TTY=tty1") == Answer(
        1, err="start: Job is already running: tty (tty1)\n"
    )
    call("start", "foo")
    assert call("initctl", "start", "foo") == Answer(
        1, err="initctl: Job is already running: foo\n"
    )


@pytest.mark.parametrize("program", ["start", "stop", "restart", "reload", "status", "usage"])
def test_a_job_that_there_is_not(program: str) -> None:
    assert calling()(program, "nope") == Answer(1, err=f"{program}: Unknown job: nope\n")
    assert calling()(program, "") == Answer(1, err=f"{program}: Name may not be empty string\n")


@pytest.mark.parametrize("program", ["start", "stop", "restart", "reload", "status", "usage"])
def test_no_job_at_all(program: str) -> None:
    advice = f"Try `{program} --help' for more information.\n"
    assert calling()(program) == Answer(1, err=f"{program}: missing job name\n{advice}")


@pytest.mark.parametrize("program", ["stop", "restart", "reload"])
def test_an_instance_that_there_is_not(program: str) -> None:
    call = calling()
    assert call(program, "foo") == Answer(1, err=f"{program}: Unknown instance: \n")
    assert call(program, "tty", "TTY=x") == Answer(1, err=f"{program}: Unknown instance: x\n")


@pytest.mark.parametrize("program", ["start", "stop", "reload", "status"])
def test_an_instance_that_has_no_name(program: str) -> None:
    text = "Unknown parameter: TTY\nUsage: tty TTY=ttyX - where X is console id\n"
    assert calling()(program, "tty") == Answer(1, err=f"{program}: {text}")


def test_restart_tells_no_usage_of_an_instance_without_a_name() -> None:
    assert calling()("restart", "tty") == Answer(1, err="restart: Unknown parameter: TTY\n")


@pytest.mark.parametrize("program", ["start", "stop", "status", "emit"])
def test_arguments_that_are_no_pairs(program: str) -> None:
    answer = calling()(program, "foo", "bar")
    assert answer == Answer(1, err=f"{program}: Env must be KEY=VALUE pairs\n")


def test_start_hands_its_pairs_to_the_job() -> None:
    call = calling()
    call("start", "foo", "A=1", "B=x=y")
    instance = call.site.engine.instance("foo")
    assert instance is not None
    assert instance.environment == {"PATH": "/bin", "TERM": "linux", "A": "1", "B": "x=y"}


def test_stop_of_an_instance_tells_only_the_job() -> None:
    call = calling()
    call("start", "tty", "TTY=tty1")
    assert call("stop", "tty", "TTY=tty1") == Answer(0, "tty stop/waiting\n")


def test_stop_of_what_stops_already() -> None:
    call = calling(obeys=False)
    call.while_waiting(call.command("start", "foo"), lambda: call.site.runs("foo"))
    call("stop", "-n", "foo")
    assert call("stop", "foo") == Answer(1, err="stop: Job has already been stopped: foo\n")


def test_restart() -> None:
    call = calling()
    call("start", "foo")
    assert call("restart", "foo") == Answer(0, "foo start/running, process 1002\n")


def test_reload_sends_the_signal_and_says_nothing() -> None:
    call = calling()
    call("start", "foo")
    assert call("reload", "foo") == Answer()


def test_reload_of_what_has_no_process() -> None:
    call = calling({"foo": "description x"})
    call("start", "foo")
    assert call("reload", "foo") == Answer(1, err="reload: Job is not running: foo\n")


@pytest.mark.parametrize("program", ["start", "stop", "restart"])
def test_within_a_job_it_is_meant_and_not_waited_for(program: str) -> None:
    call = calling({"foo": "pre-start exec x\npre-stop exec y\nexec sleep 1"}, obeys=False)
    call("start", "-n", "foo")
    call.site.runs("foo", Step.PRE_START, pid=77)
    answer = call(program, UPSTART_JOB="foo", UPSTART_INSTANCE="")
    expected = {
        "start": Answer(1, err="start: Job is already running: foo\n"),
        "stop": Answer(0, "foo stop/pre-start, process 77\n"),
        "restart": Answer(0, "foo start/pre-start, process 77\n"),
    }
    assert answer == expected[program]


def test_start_within_pre_stop_cancels_the_stop() -> None:
    call = calling({"foo": "pre-stop exec y\nexec sleep 1"}, obeys=False)
    call.while_waiting(call.command("start", "foo"), lambda: call.site.runs("foo"))
    call("stop", "-n", "foo")
    call.site.runs("foo", Step.PRE_STOP, pid=77)
    call("start", UPSTART_JOB="foo", UPSTART_INSTANCE="")
    call.site.exits("foo", Step.PRE_STOP)
    assert call("status", "foo").out == "foo start/running, process 1234\n"


def test_within_a_job_that_is_gone() -> None:
    answer = calling()("stop", UPSTART_JOB="foo", UPSTART_INSTANCE="x")
    assert answer == Answer(1, err="stop: Unknown instance: x\n")


def test_status() -> None:
    call = calling()
    assert call("status", "foo") == Answer(0, "foo stop/waiting\n")
    assert call("initctl", "status", "tty", "TTY=a").err == "initctl: Unknown instance: a\n"
    call("start", "tty", "TTY=a")
    assert call("status", "tty", "TTY=a").out == "tty (a) start/running, process 1001\n"
    inside = call("status", UPSTART_JOB="tty", UPSTART_INSTANCE="a")
    assert inside.out == "tty (a) start/running, process 1001\n"


def test_list() -> None:
    call = calling()
    call("start", "foo")
    assert call("initctl", "list").out == "foo start/running, process 1001\ntty stop/waiting\n"


def test_quiet_says_only_what_is_wrong() -> None:
    call = calling()
    assert call("start", "--quiet", "foo") == Answer()
    assert call("initctl", "-q", "list") == Answer()
    assert call("start", "-q", "foo").err == "start: Job is already running: foo\n"


def test_emit_waits_until_the_event_is_finished() -> None:
    call = calling({"foo": "start on x\nexec sleep 1"}, obeys=False)
    command = call.command("initctl", "emit", "x", "A=1")
    assert call.while_waiting(command, lambda: call.site.runs("foo")) == Answer()
    instance = call.site.engine.instance("foo")
    assert instance is not None
    assert instance.environment["A"] == "1"


def test_emit_of_an_event_that_fails() -> None:
    call = calling({"foo": "start on x\npre-start exec false\nexec sleep 1"}, obeys=False)

    def fails() -> None:
        call.site.runs("foo", Step.PRE_START)
        call.site.exits("foo", Step.PRE_START, status=1)

    answer = call.while_waiting(call.command("initctl", "emit", "x"), fails)
    assert answer == Answer(1, err="initctl: Event failed\n")


def test_emit_without_waiting() -> None:
    call = calling({"foo": "start on x\nexec sleep 1"}, obeys=False)
    assert call("emit", "--no-wait", "x") == Answer()
    assert call("status", "foo").out == "foo start/spawned\n"


def test_emit_of_nothing() -> None:
    call = calling()
    advice = "Try `emit --help' for more information.\n"
    assert call("emit") == Answer(1, err=f"emit: missing event name\n{advice}")
    assert call("emit", "") == Answer(1, err="emit: Name may not be empty string\n")


def test_a_request_that_was_taken_is_not_done_twice() -> None:
    """A supervisor took it and died before it answered; the next one is asked again."""
    call = calling(obeys=False)
    first = call.command("stop", "foo")
    call.site.tell(facts.Start(job="foo"))
    call.site.runs("foo")
    call.site.tell(facts.Stop(job="foo", request=first.token))
    call.site.exits("foo")
    assert call.site.engine.instance("foo") is None
    assert call.again(first) == Answer(0, "foo stop/waiting\n")


def test_usage() -> None:
    call = calling()
    assert call("initctl", "usage", "tty").out == ("Usage: tty TTY=ttyX - where X is console id\n")
    assert call("initctl", "usage", "foo").out == "Usage: \n"


def test_version_says_upstart() -> None:
    assert calling()("initctl", "version").out == "init (upstart 1.13.2)\n"
    assert calling()("initctl", "--version").out == "initctl (upstart 1.13.2)\n"


def test_log_priority() -> None:
    call = calling()
    assert call("initctl", "log-priority").out == "message\n"
    assert call("initctl", "log-priority", "debug") == Answer()
    assert call("initctl", "log-priority").out == "debug\n"
    text = "initctl: The log priority given was not recognised\n"
    assert call("initctl", "log-priority", "loud") == Answer(1, err=text)


def test_reload_configuration() -> None:
    call = calling()
    assert call("initctl", "reload-configuration") == Answer()
    assert call.site.done == [("reload",)]


SYSTEM = {"dbus": "start on local-filesystems\nstop on deconfiguring-networking"}
USER = {"dbus": "start on starting xsession-init"}


def test_show_config_of_the_notebook() -> None:
    assert calling(SYSTEM)("initctl", "show-config", "dbus").out == (
        "dbus\n  start on local-filesystems\n  stop on deconfiguring-networking\n"
    )
    assert calling(USER)("initctl", "show-config", "dbus").out == (
        "dbus\n  start on starting xsession-init\n"
    )


MANUAL = {
    "foo": "emits boing\nemits blip\nstart on starting A and (B or C var=2)\n"
    "stop on bar HELLO=world testing=123 or stopping wibble",
    "zoo": "exec true",
}


def test_show_config_of_the_manual() -> None:
    call = calling(MANUAL)
    assert call("initctl", "show-config").out == (
        "foo\n  emits boing\n  emits blip\n"
        "  start on (starting A and (B or C var=2))\n"
        "  stop on (bar HELLO=world testing=123 or stopping wibble)\n"
        "zoo\n"
    )
    for option in ("-e", "--enumerate"):
        assert call("initctl", "show-config", option, "foo").out == (
            "foo\n  emits boing\n  emits blip\n"
            "  start on starting (job: A, env:)\n"
            "  start on B (job:, env:)\n"
            "  start on C (job:, env: var=2)\n"
            "  stop on bar (job:, env: HELLO=world testing=123)\n"
            "  stop on stopping (job: wibble, env:)\n"
        )
    assert call("initctl", "show-config", "nope").err == "initctl: Unknown job: nope\n"


def test_check_config() -> None:
    call = calling({"foo": "start on starting grape\nstop on peach"})
    out = "foo\n  start on: unknown job grape\n  stop on: unknown event peach\n"
    assert call("initctl", "check-config") == Answer(1, out)
    assert call("initctl", "check-config", "-i", "peach", "foo") == Answer(
        1, "foo\n  start on: unknown job grape\n"
    )
    assert call("initctl", "check-config", "bar").err == "initctl: Invalid job class: bar\n"
    assert calling()("initctl", "check-config") == Answer()


def test_sessions() -> None:
    call = calling()
    assert call("initctl", "list-sessions") == Answer()
    call.site.running_sessions.append((812, "unix:abstract=/x"))
    assert call("initctl", "list-sessions").out == "812 unix:abstract=/x\n"


def test_notifications_are_taken() -> None:
    call = calling()
    assert call("initctl", "notify-disk-writeable") == Answer()
    assert call("initctl", "notify-dbus-address", "unix:x") == Answer()
    assert call("initctl", "notify-cgroup-manager-address").status == 1
    assert "missing D-Bus address" in call("initctl", "notify-dbus-address").err


@pytest.mark.parametrize("option", ["--user", "--session", "--system", "--dest=com.x"])
def test_options_about_the_bus_change_nothing(option: str) -> None:
    call = calling()
    assert call("initctl", option, "status", "foo").out == "foo stop/waiting\n"
    assert call("status", "foo", option).out == "foo stop/waiting\n"
    assert call("initctl", "--dest", "status", "status", "foo").out == "foo stop/waiting\n"


def test_commands_that_there_are_not() -> None:
    call = calling()
    advice = "Try `initctl --help' for more information.\n"
    assert call("initctl") == Answer(1, err=f"initctl: missing command\n{advice}")
    assert call("initctl", "x") == Answer(1, err=f"initctl: invalid command: x\n{advice}")
    assert call("initctl", "list", "--x").err == f"initctl: invalid option: --x\n{advice}"


def test_help() -> None:
    call = calling()
    assert call("initctl", "--help").out.startswith("Usage: initctl [OPTION]... COMMAND")
    assert "  start  " in call("initctl", "help").out
    assert call("start", "--help").out.startswith("Usage: start [OPTION]... JOB [KEY=VALUE]...\n")
    assert "--no-wait" in call("initctl", "emit", "--help").out
