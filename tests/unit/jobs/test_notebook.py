"""The examples of the notebook that asks for all this, word for word where it has words.

Its listings, searches and drawings are in `cli/test_jobfiles.py`: `show-config dbus` of the
system and of a user, who emits `startup` and who waits for it, the restricted dot file.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from hostlab.jobs.effects import EventFinished
from hostlab.jobs.find import Role, find_event
from hostlab.jobs.listing import read_listing
from hostlab.jobs.monitoring import TIME_FORMAT, monitor_line
from hostlab.jobs.relations import Kind, relate, restrict_to_jobs
from hostlab.spec.search import SYSTEM_DIRECTORIES, select_files, user_directories
from hostlab.spec.upstart import load_conf
from tests.unit.jobs.jobs_world import World

pytestmark = pytest.mark.unit

DATA = Path(__file__).parents[2] / "data"
LOGIN = """\
# /home/$USER/.config/upstart/login_test.conf
description "login test"
start on I_AM_LOGGING_IN            # Start criteria
exec /bin/date > /tmp/login_test    # Do something
"""
LOGIN_BY_DBUS = """\
description "login test"
start on dbus SIGNAL=SessionNew     # Listen for the dbus Signal
exec /bin/date > /tmp/login_test    # Do something
"""
LOGIN_AND_LOGOUT = """\
description "login and logout test"
start on dbus SIGNAL=Changed INTERFACE=org.freedesktop.Accounts.User
exec /bin/date > /tmp/login_test
"""
LOGOFF = """\
# /etc/init/logoff_test.conf
description "logout test"
setuid some_username        # Your script probably doesn't need to run as root
start on stopping lightdm   # Run *before* it is stopped
exec /bin/date > /tmp/logoff_test
"""
TTY2 = """\
start on (runlevel [23] and ((not-container or container CONTAINER=lxc) or \
container CONTAINER=lxc-libvirt))
stop on runlevel [!23]
respawn
exec /sbin/getty -8 38400 tty2
"""
STARTPAR_BRIDGE = """\
start on (started JOB!=startpar-bridge or stopped JOB!=startpar-bridge)
instance $JOB-$INSTANCE-$UPSTART_EVENTS
task
exec startpar-upstart-inject $JOB $UPSTART_EVENTS
"""
TRANSCRIPT = """\
2014-01-03 23:23:43.013436 stopping JOB='tty2' INSTANCE='' RESULT='ok'
2014-01-03 23:23:43.020309 starting JOB='tty2' INSTANCE=''
2014-01-03 23:23:43.031193 starting JOB='startpar-bridge' INSTANCE='tty2--started'
2014-01-03 23:23:43.033055 started JOB='startpar-bridge' INSTANCE='tty2--started'
2014-01-03 23:23:43.040671 stopping JOB='startpar-bridge' INSTANCE='tty2--started' RESULT='ok'
2014-01-03 23:23:43.042496 stopped JOB='startpar-bridge' INSTANCE='tty2--started' RESULT='ok'
2014-01-03 23:23:43.044271 started JOB='tty2' INSTANCE=''
"""
RESTRICTED = ("friendly-recovery", "udev-fallback-graphics", "mountall", "kmod", "udevtrigger",
              "hostname", "plymouth-ready", "udevmonitor")  # fmt: skip


def test_a_login_job_is_started_by_initctl_emit() -> None:
    world = World(login_test=LOGIN)
    world.emit("I_AM_LOGGING_IN", request="initctl")
    (spawn,) = world.spawns()
    assert spawn.process.exec == "/bin/date > /tmp/login_test"
    assert ("UPSTART_EVENTS", "I_AM_LOGGING_IN") in spawn.environment
    # `exec` of a service: whoever emitted waits until it runs, not until it has ended.
    world.runs("login_test")
    assert world.replies() == {"initctl": True}
    world.exits("login_test")
    assert world.status("login_test") == "stop/waiting"
    assert not world.blocked()


def test_a_login_job_is_started_by_a_signal_of_the_bus() -> None:
    world = World(new=LOGIN_BY_DBUS, changed=LOGIN_AND_LOGOUT)
    world.emit("dbus", SIGNAL="SessionRemoved", INTERFACE="org.freedesktop.login1.Manager")
    assert not world.spawns()
    world.emit("dbus", SIGNAL="SessionNew", INTERFACE="org.freedesktop.login1.Manager")
    assert [each.job.name for each in world.spawns()] == ["new"]
    world.emit("dbus", SIGNAL="Changed", INTERFACE="org.freedesktop.Accounts.User")
    assert [each.job.name for each in world.spawns()] == ["new", "changed"]


def test_a_logoff_job_runs_before_the_other_is_stopped() -> None:
    world = World(lightdm="exec lightdm\n", logoff_test=LOGOFF)
    world.running("lightdm")
    world.stop("lightdm", request="logout")
    assert world.status("lightdm") == "stop/stopping"
    assert not world.kills()
    assert world.spawns()[-1].job.user == "some_username"
    world.runs("logoff_test")
    assert world.status("lightdm") == "stop/killed"
    assert world.kills() == [(15, "process-group")]
    world.killed("lightdm")
    assert world.replies() == {"logout": True}


def test_the_directories_of_the_system_and_of_a_user_differ() -> None:
    """So `show-config dbus` does; the first directory that has a name owns it."""
    assert SYSTEM_DIRECTORIES == ("/etc/init",)
    own, _, etc, sessions = user_directories({"HOME": "/home/u"})
    assert (own, sessions) == ("/home/u/.config/upstart", "/usr/share/upstart/sessions")
    chosen = select_files([(own, ["login_test.conf"]), (etc, []), (sessions, ["dbus.conf"])])
    assert {name: each.conf[0] for name, each in chosen.items()} == {
        "login_test": own,
        "dbus": sessions,
    }


def test_one_job_emits_startup_and_seven_wait_for_it() -> None:
    """The notebook counted by eye what grep showed; `udev-finish` is an eighth in its listing."""
    jobs = read_listing((DATA / "show-config-startup.txt").read_text(), file="listing")
    found = find_event(jobs, "startup")
    assert [each.job for each in found if each.role is Role.EMITS] == ["friendly-recovery"]
    waiting = {each.job for each in found if each.role is Role.STARTS_ON}
    assert waiting == {*RESTRICTED[1:], "udev-finish"}
    assert not [each for each in found if each.role is Role.STOPS_ON]


def test_the_restricted_graph_has_these_jobs_and_what_they_name() -> None:
    jobs = read_listing((DATA / "show-config-startup.txt").read_text(), file="listing")
    graph = restrict_to_jobs(relate(jobs), RESTRICTED)
    assert set(graph.jobs) == {*RESTRICTED, "udev", "plymouth-splash"}
    starting = {each.job for each in graph.relations if each.event == "startup"}
    assert starting == set(RESTRICTED)
    assert not [each for each in graph.relations if each.kind is Kind.STOP_ON]


def test_the_transcript_of_a_change_of_tty2() -> None:
    """Somebody logs out: getty ends, is respawned, and a task runs for the job that started."""
    world = World(tty2=TTY2)
    world.load("startpar-bridge", STARTPAR_BRIDGE)
    world.emit("not-container")
    world.emit("runlevel", RUNLEVEL="2")
    world.runs("tty2")
    world.runs("startpar-bridge", name="tty2--started")
    world.exits("startpar-bridge", name="tty2--started")
    assert not world.blocked()
    world.effects.clear()

    world.exits("tty2")
    world.runs("tty2")
    assert world.blocked() == ["started"]
    world.runs("startpar-bridge", name="tty2--started")
    world.exits("startpar-bridge", name="tty2--started")

    expected = TRANSCRIPT.splitlines()
    times = [datetime.strptime(f"{line[:26]}+0000", f"{TIME_FORMAT}%z") for line in expected]
    events = [each for each in world.effects if isinstance(each, EventFinished)]
    lines = [
        monitor_line(each, time.timestamp(), zone=UTC)
        for each, time in zip(events, times, strict=True)
    ]
    assert lines == expected


def test_the_files_of_the_notebook_are_read_as_they_stand() -> None:
    job = load_conf(LOGIN, file="login_test.conf", name="login_test")
    assert job.description == "login test"
    assert job.exec == "/bin/date > /tmp/login_test"
