"""A `.service` as a job: systemd.service(5), systemd.exec(5), systemd.kill(5)."""

from __future__ import annotations

import pytest

from hostlab.spec.job import (
    Command,
    Console,
    Directory,
    EnvironmentFile,
    Expect,
    KillMode,
    Process,
    ResourceLimit,
)
from hostlab.spec.systemd.respawning import KINDS
from hostlab.spec.systemd.specifiers import Machine
from hostlab.spec.systemd.values import FOREVER_S
from tests.unit.spec.systemd.unit_site import DATA, loaded, service, warnings

pytestmark = pytest.mark.unit


def argvs(process: Process | None) -> list[tuple[str, ...]]:
    assert process is not None
    return [each.argv for each in process.commands]


@pytest.mark.parametrize(
    ("kind", "expect", "deadline_s"),
    [
        ("simple", Expect.NONE, None),
        ("exec", Expect.NONE, None),
        ("idle", Expect.NONE, None),
        ("forking", Expect.FORK, 90.0),
        ("notify", Expect.NOTIFY, 90.0),
        ("notify-reload", Expect.NOTIFY, 90.0),
        ("dbus\nBusName=org.x", Expect.BUS, 90.0),
    ],
)
def test_type_is_what_it_waits_for(kind: str, expect: Expect, deadline_s: float | None) -> None:
    job = service(f"Type={kind}\nExecStart=/bin/a b")
    assert (job.readiness.kind, job.readiness.deadline_s) == (expect, deadline_s)
    assert job.commands == (Command(argv=("/bin/a", "b")),)
    assert not job.task


def test_a_pid_file_may_be_relative_to_run() -> None:
    job = service("Type=forking\nPIDFile=a.pid\nExecStart=/bin/a\nWatchdogSec=1min")
    assert (job.readiness.pid_file, job.readiness.watchdog_s) == ("/run/a.pid", 60.0)


def test_the_steps_of_a_service() -> None:
    job = service(
        "ExecStart=/bin/main\nExecStartPre=-/bin/p1\nExecStartPre=/bin/p2 ; /bin/p3\n"
        "ExecStartPost=/bin/q\nExecStop=/bin/s $MAINPID\nExecStopPost=/bin/t\nExecCondition=/bin/c"
    )
    assert argvs(job.pre_start) == [("/bin/c",), ("/bin/p1",), ("/bin/p2",), ("/bin/p3",)]
    assert job.pre_start is not None
    assert [each.ignore_failure for each in job.pre_start.commands] == [False, True, False, False]
    assert argvs(job.post_start) == [("/bin/q",)]
    assert job.pre_stop == Process(commands=(Command(argv=("/bin/s", "$MAINPID"), expand=True),))
    assert argvs(job.post_stop) == [("/bin/t",)]


def test_a_oneshot_is_a_task_of_its_commands() -> None:
    job = service("Type=oneshot\nExecStart=/bin/a\nExecStart=-/bin/b\nExecStop=/bin/c")
    assert job.task
    assert job.commands == (
        Command(argv=("/bin/a",)), Command(argv=("/bin/b",), ignore_failure=True),
    )  # fmt: skip
    assert (job.pre_stop, argvs(job.post_stop)) == (None, [("/bin/c",)])


def test_a_oneshot_that_remains_is_a_state() -> None:
    job = service(
        "Type=oneshot\nRemainAfterExit=yes\nExecStartPre=/bin/p\nExecStart=/bin/a\n"
        "ExecStop=/bin/b\nExecStopPost=/bin/c"
    )
    assert (job.task, job.commands) == (False, ())
    assert argvs(job.pre_start) == [("/bin/p",), ("/bin/a",)]
    assert argvs(job.post_stop) == [("/bin/b",), ("/bin/c",)]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("", "no-command"),
        ("ExecStart=bin/relative", "no-command"),
        ("Type=simple\nExecStop=/bin/b", "no-command"),
        ("Type=oneshot\nExecStop=/bin/b", "no-command"),
        ("ExecStart=/bin/a\nExecStart=/bin/b", "commands"),
    ],
)
def test_what_systemd_refuses_to_load_is_an_error(body: str, code: str) -> None:
    found = loaded(f"[Service]\n{body}\n")
    assert found.job is None
    assert found.error is not None
    assert found.error.code == code
    assert found.error.where is not None


def test_a_unit_that_only_stops_something_is_one() -> None:
    job = service("Type=oneshot\nRemainAfterExit=yes\nExecStop=/bin/b")
    assert (job.pre_start, argvs(job.post_stop)) == (None, [("/bin/b",)])


@pytest.mark.parametrize(
    ("reload", "signal"),
    [
        ("/bin/kill -HUP $MAINPID", 1),
        ("/bin/kill -s USR1 ${MAINPID}", 10),
        ("kill -1 $MAINPID", 1),
    ],
)
def test_a_reload_that_is_a_kill_is_the_signal(reload: str, signal: int) -> None:
    job = service(f"ExecStart=/bin/a\nExecReload={reload}")
    assert (job.reload_signal, job.reload) == (signal, None)


def test_another_reload_is_a_command() -> None:
    job = service("ExecStart=/bin/a\nExecReload=/bin/a -t\nExecReload=/bin/kill -HUP $MAINPID")
    assert argvs(job.reload) == [("/bin/a", "-t"), ("/bin/kill", "-HUP", "$MAINPID")]


EXIT_1, ABRT, TERM, KILL = 1, 6 << 8, 15 << 8, 9 << 8
RESTARTS = {
    "no": "", "always": "0 1 a t k", "on-success": "0 t", "on-failure": "1 a k",
    "on-abnormal": "a k", "on-abort": "a k", "on-watchdog": "a",
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_restart_by_the_table_of_systemd_service(kind: str) -> None:
    job = service(f"ExecStart=/bin/a\nRestart={kind}")
    ends = {"0": 0, "1": EXIT_1, "a": ABRT, "t": TERM, "k": KILL}
    again = [
        word for word, end in ends.items()
        if job.respawn.enabled and end not in job.respawn.never_on and end not in job.normal_exit
    ]  # fmt: skip
    assert " ".join(again) == RESTARTS[kind]


def test_restart_with_named_ends() -> None:
    job = service(
        "ExecStart=/bin/a\nRestart=on-failure\nSuccessExitStatus=143 SIGKILL\n"
        "RestartPreventExitStatus=255 SIGSEGV\nRestartForceExitStatus=TEMPFAIL 0"
    )
    assert {143, KILL} <= set(job.normal_exit)
    assert 0 not in job.normal_exit
    assert job.respawn.never_on == (255, 11 << 8)


@pytest.mark.parametrize(
    ("said", "limit", "interval_s", "enabled"),
    [
        ("", 4, 10.0, True),
        ("[Unit]\nStartLimitIntervalSec=1min\nStartLimitBurst=3", 2, 60.0, True),
        ("StartLimitInterval=3m", 4, 180.0, True),
        ("[Unit]\nStartLimitIntervalSec=0", 0, 0.0, True),
        ("StartLimitInterval=infinity", 4, FOREVER_S, True),
        ("StartLimitBurst=1", 10, 5.0, False),
    ],
)
def test_start_limits(said: str, limit: int, interval_s: float, *, enabled: bool) -> None:
    respawn = service(f"ExecStart=/bin/a\nRestart=always\n{said}").respawn
    assert (respawn.limit, respawn.interval_s, respawn.enabled) == (limit, interval_s, enabled)


def test_delays() -> None:
    assert service("ExecStart=/a\nRestart=always").respawn.delay_min_s == 0.1
    respawn = service("ExecStart=/a\nRestart=always\nRestartSec=5\nRestartMaxDelaySec=1min").respawn
    assert (respawn.delay_min_s, respawn.delay_max_s) == (5.0, 60.0)


def test_a_main_command_whose_failure_is_nothing_is_still_executed_itself() -> None:
    job = service("ExecStart=-/bin/a")
    assert job.commands == (Command(argv=("/bin/a",)),)
    assert {0, 1, 255, KILL} <= set(job.normal_exit)
    assert service("ExecStart=-/bin/a\nRestart=always").normal_exit == ()


def test_how_it_is_stopped() -> None:
    kill = service("ExecStart=/a").kill
    assert (kill.mode, kill.signal, kill.timeout_s) == (KillMode.CONTROL_GROUP, 15, 90.0)
    kill = service("ExecStart=/a\nKillMode=mixed\nKillSignal=SIGQUIT\nTimeoutStopSec=5").kill
    assert (kill.mode, kill.signal, kill.timeout_s) == (KillMode.MIXED, 3, 5.0)
    for never in ("SendSIGKILL=no", "TimeoutStopSec=0", "TimeoutSec=infinity"):
        assert service(f"ExecStart=/a\n{never}").kill.timeout_s == FOREVER_S
    timeouts = service("Type=notify\nExecStart=/a\nTimeoutSec=7\nTimeoutStartSec=3")
    assert (timeouts.readiness.deadline_s, timeouts.kill.timeout_s) == (3.0, 7.0)


def test_as_whom_and_where() -> None:
    job = service(
        "ExecStart=/a\nUser=www\nGroup=g\nSupplementaryGroups=a b\nUMask=027\nNice=-5\n"
        "OOMScoreAdjust=-500\nLimitNOFILE=1024:2048\nLimitCORE=infinity\nWorkingDirectory=/srv\n"
        "RootDirectory=/root"
    )
    assert (job.user, job.group, job.groups, job.umask) == ("www", "g", ("a", "b"), 0o27)
    assert (job.nice, job.oom_score_adj, job.directory, job.chroot) == (-5, -500, "/srv", "/root")
    assert job.limits == (
        ResourceLimit(resource="core", soft=-1, hard=-1),
        ResourceLimit(resource="nofile", soft=1024, hard=2048),
    )


def test_variables() -> None:
    job = service(
        'ExecStart=/a\nUser=www\nEnvironment=A=1 "B=2 3" C=%n\nEnvironment=A=4\n'
        "EnvironmentFile=-/etc/default/a\nEnvironmentFile=/etc/b\nPassEnvironment=LANG A\n"
        "UnsetEnvironment=B C=other"
    )
    assert job.environment == (
        ("USER", "www"), ("LOGNAME", "www"), ("A", "4"), ("C", "x.service"),
    )  # fmt: skip
    assert job.inherit == ("LANG",)
    assert job.environment_files == (
        EnvironmentFile(path="/etc/default/a", optional=True), EnvironmentFile(path="/etc/b"),
    )  # fmt: skip


def test_directories_are_made_before_the_start() -> None:
    job = service(
        "ExecStart=/a\nRuntimeDirectory=a b/c\nRuntimeDirectoryMode=0750\nStateDirectory=%N\n"
        "LogsDirectory=../x\nCacheDirectory=/y"
    )
    assert job.directories == (
        Directory(path="/run/a", mode=0o750, kept=False),
        Directory(path="/run/b/c", mode=0o750, kept=False),
        Directory(path="/var/lib/x"),
    )
    assert dict(job.environment) == {
        "RUNTIME_DIRECTORY": "/run/a:/run/b/c", "STATE_DIRECTORY": "/var/lib/x",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("said", "console"),
    [
        ("", Console.LOG),
        ("StandardOutput=null", Console.NONE),
        ("StandardOutput=null\nStandardError=journal", Console.LOG),
        ("StandardOutput=tty", Console.OUTPUT),
        ("StandardInput=tty\nStandardOutput=tty", Console.OWNER),
        ("StandardOutput=append:/var/log/a", Console.LOG),
    ],
)
def test_where_the_output_goes(said: str, console: Console) -> None:
    assert service(f"ExecStart=/a\n{said}").console is console


def test_capabilities() -> None:
    bounded = "ExecStart=/a\nCapabilityBoundingSet=CAP_NET_RAW CAP_SYS_TIME"
    assert service(bounded).capabilities == ("NET_RAW", "SYS_TIME")
    assert service(f"{bounded}\nUser=u").capabilities is None
    ambient = "User=u\nAmbientCapabilities=CAP_NET_RAW CAP_CHOWN"
    assert service(f"{bounded}\n{ambient}").capabilities == ("NET_RAW",)
    assert service("ExecStart=/a\nCapabilityBoundingSet=").capabilities == ()
    without = service("ExecStart=/a\nCapabilityBoundingSet=~CAP_SYS_ADMIN").capabilities
    assert without is not None
    assert "SYS_ADMIN" not in without
    assert "CHOWN" in without
    assert service("ExecStart=/a").capabilities is None


def test_what_cannot_be_written() -> None:
    full = service("ExecStart=/a\nProtectSystem=full\nProtectHome=read-only\nReadOnlyPaths=/srv")
    assert full.readonly_paths == (
        "-/usr", "-/boot", "-/efi", "-/etc", "-/home", "-/root", "-/run/user", "/srv",
    )  # fmt: skip
    within = service("ExecStart=/a\nProtectSystem=full\nReadWritePaths=-/etc/a\n")
    assert within.readonly_paths == ("-/usr", "-/boot", "-/efi", "-/etc")
    assert within.writable_paths == ("-/etc/a",)
    strict = service("ExecStart=/a\nProtectSystem=strict\nStateDirectory=s\nProtectHome=yes\n")
    assert strict.readonly_paths == ("/",)
    assert strict.writable_paths == ("-/var/lib/s",)
    assert strict.hidden_paths == ("-/home", "-/root", "-/run/user")
    assert service("ExecStart=/a\nInaccessiblePaths=/x").hidden_paths == ("/x",)


def test_the_rest_of_the_sandbox() -> None:
    job = service(
        "ExecStart=/a\nPrivateTmp=true\nNoNewPrivileges=yes\nMemoryMax=64M\nCPUQuota=150%\n"
        "TasksMax=7"
    )
    assert (job.private_tmp, job.no_new_privs) == (True, True)
    assert (job.resources.memory_bytes, job.resources.cpu, job.resources.pids) == (
        64 * 2**20, 1.5, 7,
    )  # fmt: skip
    share = service("ExecStart=/a\nMemoryMax=50%", machine=Machine(memory_bytes=1000))
    assert share.resources.memory_bytes == 500


def test_who_is_privileged() -> None:
    job = service(
        "User=u\nExecStart=/a\nExecStartPre=+/p\nExecStartPre=+/q\nExecStopPost=/s\nExecStop=!/t"
    )
    steps = (job.pre_start, job.post_stop, job.pre_stop)
    assert [step is not None and step.privileged for step in steps] == [True, False, True]
    old = service("User=u\nPermissionsStartOnly=true\nExecStart=/a\nExecStartPre=/p")
    assert old.pre_start is not None
    assert old.pre_start.privileged
    assert warnings("[Service]\nUser=u\nExecStart=/a\nExecStartPre=+/p\nExecStartPre=/q\n")
    assert service("User=u\nExecStart=+/a").user is None


def test_a_main_process_that_changes_its_user_itself_starts_as_root() -> None:
    """As chronyd does: its directories are the user's, its capabilities what root is left."""
    bounded = "User=u\nCapabilityBoundingSet=CAP_CHOWN CAP_SETUID"
    job = service(f"{bounded}\nExecStart=!/a")
    assert (job.user, job.main_is_root, job.capabilities) == ("u", True, ("CHOWN", "SETUID"))
    assert service("User=u\nExecStart=!/a").capabilities is None
    other = service(f"{bounded}\nExecStart=/a")
    assert (other.main_is_root, other.capabilities) == (False, None)
    assert not service("ExecStart=!/a").main_is_root


def test_conditions_are_kept() -> None:
    found = loaded(
        "[Unit]\nConditionPathExists=|!/a/%N\nConditionPathExists=rel\nAssertHost=h\n"
        "[Service]\nExecStart=/a\n"
    )
    assert found.job is not None
    path, host = found.job.requirements
    assert (path.kind, path.value, path.negated, path.triggering, path.asserted) == (
        "PathExists", "/a/x", True, True, False,
    )  # fmt: skip
    assert (host.kind, host.value, host.asserted) == ("Host", "h", True)
    reset = loaded("[Unit]\nConditionHost=a\nAssertHost=b\nConditionUser=\n[Service]\nExecStart=/a")
    assert reset.job is not None
    assert [each.asserted for each in reset.job.requirements] == [True]


def test_nginx_as_debian_ships_it() -> None:
    found = loaded((DATA / "nginx.service").read_text(), "nginx.service")
    job = found.job
    assert job is not None
    assert found.warnings == ()
    assert job.commands[0].argv == (
        "/usr/sbin/nginx", "-g", "daemon on; master_process on;",
    )  # fmt: skip
    assert (job.readiness.kind, job.readiness.pid_file) == (Expect.FORK, "/run/nginx.pid")
    assert (job.kill.mode, job.kill.timeout_s) == (KillMode.MIXED, 5.0)
    assert job.pre_stop is not None
    assert job.pre_stop.commands[0].ignore_failure
    assert found.install.wanted_by == ("multi-user.target",)
