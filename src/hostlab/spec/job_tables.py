"""Every key of a job, and of the boot that jobs wait for: `tables.py` goes on with the others."""

from __future__ import annotations

from functools import partial

from hostlab.spec import job_forms, units
from hostlab.spec.grammar import CONDITION, EVENT
from hostlab.spec.job import Console, Expect, KillMode
from hostlab.spec.job_sockets import SOCKETS
from hostlab.spec.scalars import (
    CAPABILITY,
    CPU_TIME,
    DURATION,
    ENVIRONMENT,
    FLAG,
    LABEL,
    PATH,
    PIDS,
    PORT,
    SIZE,
    TEXT,
    VARIABLE,
)
from hostlab.spec.shapes import Forms, Key, ListOf, MapOf, Table, Text, choice, under
from hostlab.spec.stanzas import RESOURCES

_SCRIPT = Text("lines of shell", units.text, {"type": "string"})
_SIGNAL = Text("a signal", job_forms.signal, {"type": ["string", "integer"]})
_EVENTS = Text("an event's name or a glob", job_forms.pattern, {"type": "string"})
_BOUND = Text("a number, a size or `unlimited`", job_forms.bound, {"type": ["string", "integer"]})
_COMMAND = Forms(scalar=(TEXT, None), sequence=(ListOf(TEXT, alone=False), job_forms.argv))

JOB_NAMESPACES = Table(
    "job namespaces",
    "Namespaces of other nodes that a job runs in.",
    tuple(
        Key(kind, LABEL, f"Run in that node's {kind} namespace.", "web1")
        for kind in ("net", "ipc", "uts", "pid", "mnt", "cgroup", "time")
    ),
)

PROCESS = Table(
    "process",
    "What a step of a job runs. A text or list alone is its `exec`.",
    (
        Key("exec", _COMMAND, "A command line or the exact arguments, as a job's `exec`.",
            "mkdir -p /run/web"),
        Key("script", _SCRIPT, "Lines for `/bin/sh -e`.", "'rm -f /run/web/*'"),
    ),
    exclusive=(("exec", "script"),),
)  # fmt: skip
_PROCESS = Forms(
    scalar=(TEXT, under("exec")),
    sequence=(ListOf(TEXT, alone=False), job_forms.exec_argv),
    mapping=(PROCESS, None),
)

DELAY = Table(
    "respawn delay",
    "The wait before a respawn. One time alone is the same each time; a list is `[MIN, MAX]`.",
    (
        Key("min", DURATION, "Before the first respawn; each further one waits twice as long.",
            "100ms", "0"),
        Key("max", DURATION, "At most this.", "1m", "`min`"),
    ),
)  # fmt: skip
RESPAWN = Table(
    "respawn",
    "What happens when the main process ends although the job should run. `true` alone starts it "
    "again, within the limit.",
    (
        Key("limit", Text("a number or `unlimited`", job_forms.count,
                          {"type": ["string", "integer"]}),
            "So many respawns within the interval; one more and the job has failed.",
            "5", "10"),
        Key("interval", DURATION, "In which the respawns are counted.", "1m", "5s"),
        Key("delay", Forms(scalar=(DURATION, job_forms.delay_alone),
                           sequence=(ListOf(DURATION, alone=False), job_forms.delay_pair),
                           mapping=(DELAY, None)),
            "How long to wait before it is started again: `[MIN, MAX]` doubles from one to the "
            "other.", "[100ms, 1m]", "not at all"),
    ),
)  # fmt: skip

READINESS = Table(
    "readiness",
    "What tells that the main process is ready; until then the job is not `started`. A word alone "
    "is its `expect`.",
    (
        Key("expect", choice("a kind of expect", (Expect.NONE, Expect.STOP, Expect.FORK,
                                              Expect.DAEMON, Expect.NOTIFY)),
            "`stop`: it raises SIGSTOP. `fork`: it forks and its parent leaves. `daemon`: it forks "
            "twice. `notify`: `READY=1` of sd_notify(3). `none`: it is ready when it runs.",
            "notify", "none"),
        Key("port", PORT, "A process of the job listens on this port.", "80"),
        Key("file", PATH, "This path exists.", "/run/web.pid"),
        Key("fd", Text("a descriptor", partial(units.between, 3, 1023), {"type": "integer"}),
            "A newline on this descriptor, as s6 has it.", "3"),
        Key("within", DURATION, "It must be ready within this time, or the start has failed.",
            "10s", "for ever"),
    ),
    exclusive=(("expect", "port", "file", "fd"),),
)  # fmt: skip

KILL = Table(
    "kill",
    "How the job is stopped.",
    (
        Key("signal", _SIGNAL, "What it is asked with.", "INT", "TERM"),
        Key("timeout", DURATION, "From the signal to KILL.", "30s", "5s"),
        Key("mode", choice("a kill mode", tuple(KillMode)),
            "Whom the signals reach. `control-group`: every process of the job. `mixed`: the "
            "signal the main process, then KILL every one. `process-group`: the main process's "
            "group, as Upstart does. `process`: the main process. `none`: nobody.",
            "mixed", "control-group"),
    ),
)  # fmt: skip

JOB_LIMITS = Table(
    "job limits",
    "What a job may use of its node, all its processes together.",
    (
        Key("memory", SIZE, "Memory.", "64M", "no limit"),
        Key("cpu", CPU_TIME, "CPU time, in CPUs: `0.5` is half of one.", "0.5", "no limit"),
        Key("pids", PIDS, "Processes and threads.", "100", "no limit"),
    ),
)

APPARMOR = Table(
    "job apparmor",
    "The AppArmor profile of a job. A name alone is what it switches to.",
    (
        Key("load", PATH, "A profile's file to load before anything of the job runs.",
            "/etc/apparmor.d/usr.sbin.web"),
        Key("switch", TEXT, "The loaded profile that the main process runs under.", "/usr/sbin/web",
            "none"),
    ),
)  # fmt: skip

_RLIMITS = MapOf(
    choice("a resource", tuple(sorted(RESOURCES))),
    Forms(
        scalar=(_BOUND, job_forms.bound_alone),
        sequence=(ListOf(_BOUND, alone=False), job_forms.bound_pair),
        words="a value or `[SOFT, HARD]`",
    ),
)

_WHAT = (
    Key("exec", _COMMAND,
        "A command line, given to `/bin/sh -e -c` if it has shell characters; or a list, the "
        "exact arguments. Several commands, as `a; b` or in several lines, are its `script`.",
        "python3 -m http.server 80"),
    Key("script", _SCRIPT, "Lines for `/bin/sh -e`, instead of `exec`. With neither the job is a "
        "state: it is started and stopped, and others can wait for it.", "'sleep 1; date'"),
    Key("pre_start", _PROCESS, "Runs before the main process; if it fails, so does the start.",
        "mkdir -p /run/web"),
    Key("post_start", _PROCESS, "Runs when the main process is ready, before the job is "
        "`started`.", "touch /run/web/up"),
    Key("pre_stop", _PROCESS, "Runs before the main process is stopped.", "web --drain"),
    Key("post_stop", _PROCESS, "Runs after the main process's end.",
        "{script: 'rm -f /run/web/*'}"),
)  # fmt: skip

_WHEN = (
    Key("start_on", CONDITION,
        "Starts the job when this is met: events with `and`, `or` and parentheses, in the grammar "
        "of Upstart's `start on`. Between braces, quote one that has `[` or `,` in it.",
        "started db and net-device-up IFACE=eth0", "startup"),
    Key("sockets", SOCKETS, "Sockets that init listens on for it; a connection starts the job. "
        "Without `start_on` nothing else does.", "[80, /run/web.sock]", "none"),
    Key("stop_on", CONDITION, "Stops it when this is met.", "stopping db", "never"),
    Key("manual", FLAG, "Whether it is started by request only.", "true", "false"),
    Key("task", FLAG, "Whether it is done when its process ends, rather than when it runs.", "true",
        "false"),
    Key("instance", TEXT, "The name of an instance, from its variables: as many run at once as "
        "there are names.", "$TTY", "there is one"),
    Key("export", ListOf(VARIABLE), "Variables of the job that its events carry.", "[PORT]"),
    Key("emits", ListOf(_EVENTS), "Events that it emits itself, for the picture of the jobs and "
        "for `job find`.", "[login]"),
    Key("readiness", Forms(scalar=(READINESS.by_word["expect"].shape, under("expect")),
                           mapping=(READINESS, None)),
        "What tells that it is ready.", "{port: 80, within: 10s}", "it runs"),
    Key("respawn", Forms(scalar=(FLAG, job_forms.enabled_flag),
                         mapping=(RESPAWN, job_forms.enabled_mapping)),
        "Whether and how it is started again when it ends.", "{limit: 5, interval: 1m}", "false"),
    Key("normal_exit", ListOf(Text("an exit status or a signal", job_forms.end,
                                   {"type": ["string", "integer"]})),
        "Ends of the main process that are no failure and no reason to respawn.", "[0, TERM]",
        "`0`, unless it respawns"),
    Key("kill", KILL, "How it is stopped.", "{timeout: 30s}"),
    Key("reload_signal", _SIGNAL, "What `job reload` sends.", "USR1", "HUP"),
)  # fmt: skip

_AS_WHOM = (
    Key("environment", ENVIRONMENT, "Variables beside the node's.", "{PORT: 80}"),
    Key("user", TEXT, "Who it runs as.", "www-data", "root"),
    Key("group", TEXT, "The group it runs as.", "www-data", "the user's"),
    Key("groups", ListOf(TEXT), "Other groups it is in.", "[adm]", "the user's"),
    Key("directory", PATH, "Where it runs.", "/srv", "/"),
    Key("chroot", PATH, "Its root directory.", "/srv/root", "the node's"),
    Key("umask", Text("an octal mask", job_forms.umask, {"type": ["integer", "string"]}),
        "Permission bits that its files do not get, in octal.", "'027'", "022"),
    Key("console", choice("a kind of console", tuple(Console)),
        "Where its output goes. `log`: its log. `none`: nowhere. `output`: the node's console. "
        "`owner`: there too, and the console is its terminal.", "none", "log"),
)  # fmt: skip

_BOUNDS = (
    Key("nice", Text("a number", partial(units.between, -20, 19), {"type": "integer"}),
        "Its priority, from -20 (first) to 19.", "10", "the node's"),
    Key("oom_score_adj", Text("a number", partial(units.between, -1000, 1000),
                              {"type": "integer"}),
        "Who is ended first when memory is short: 1000 first, -1000 never.", "500", "0"),
    Key("limits", JOB_LIMITS, "What it may use, all its processes together.", "{memory: 64M}"),
    Key("rlimits", _RLIMITS, "Limits of setrlimit(2) for each of its processes: `nofile`, "
        "`nproc`, `core` and the other names of Upstart's `limit`. A value is a number, a size or "
        "`unlimited`.", "{nofile: [1024, unlimited]}"),
    Key("capabilities", ListOf(CAPABILITY), "Exactly these.", "[NET_BIND_SERVICE]", "the node's",
        aliases=("capability",)),
    Key("no_new_privs", FLAG, "Whether nothing it runs can gain privileges.", "true", "false"),
    Key("private_tmp", FLAG, "Whether it has a /tmp of its own.", "true", "false"),
    Key("read_only", ListOf(PATH), "Paths that it cannot write to.", "[/etc, /usr]"),
    Key("tcp_congestion", TEXT, "Congestion control of its TCP sockets.", "bbr", "the node's"),
    Key("apparmor", Forms(scalar=(TEXT, under("switch")), mapping=(APPARMOR, None)),
        "The AppArmor profile it runs under.", "/usr/sbin/web", "none"),
    Key("namespaces", JOB_NAMESPACES, "Run in other nodes' namespaces.", "{net: web1}"),
    Key("debug", FLAG, "Whether its main process stops before its program, for a debugger.", "true",
        "false"),
)  # fmt: skip

_SAID = (
    Key("description", TEXT, "What it is, for people.", "the shop's web server"),
    Key("usage", TEXT, "What a person is told whose start lacks a variable of `instance`.",
        "TTY - the terminal"),
)  # fmt: skip

JOB = Table(
    "job",
    "Something the node runs, started at `up` unless it says when. A text or list alone is its "
    "`exec`.",
    (*_WHAT, *_WHEN, *_AS_WHOM, *_BOUNDS, *_SAID),
    exclusive=(("exec", "script"), ("start_on", "manual"), ("sockets", "manual")),
)

BOOT = Table(
    "boot",
    "The events that the node's init emits when it comes up: those of a host's boot, for jobs that "
    "wait for them. `false` emits the first one only.",
    (
        Key("runlevel", choice("a runlevel", ("1", "2", "3", "4", "5", "S")),
            "The runlevel that the boot ends in.", "3", "2"),
        Key("container", Text("a name, or false", job_forms.name_or_false,
                              {"type": ["string", "boolean"]}),
            "What `container CONTAINER=…` says; with `false` it is `not-container`.", "lxc",
            "hostlab"),
        Key("startup_event", Text("an event's name", job_forms.pattern, {"type": "string"}),
            "The first event. Jobs that do not say when start on it.",
            "startup", "startup"),
        Key("events", ListOf(EVENT), "What follows it, instead of the usual boot.",
            "[filesystem, runlevel RUNLEVEL=2 PREVLEVEL=N]", "the usual boot"),
    ),
)  # fmt: skip
