"""A job: something a node runs, whether it came from YAML, a `.conf` or a systemd unit.

One type for every source. The fields are what Upstart's 35 stanzas say (init(5)), named for what
they mean rather than for the stanza, and after them what today's users expect beside them: a
back-off, readiness that the program tells itself, a cgroup's limits, a sandbox. Everything is
frozen and survives msgspec's JSON unchanged, because the supervisor's state is made of it.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

DEFAULT_KILL_TIMEOUT_S = 5.0
DEFAULT_RESPAWN_LIMIT = 10
DEFAULT_RESPAWN_INTERVAL_S = 5.0
DEFAULT_UMASK = 0o022
STARTUP = "startup"
"""The first event there is."""
SIGHUP = 1
SIGTERM = 15
UNLIMITED = -1
"""A resource limit that is none, as the kernel's RLIM_INFINITY reads in Python."""


class Value(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of a job's parts."""


class Step(StrEnum):
    """The processes a job can have; the names are those of `PROCESS=` in a `stopped` event."""

    MAIN = "main"
    SECURITY = "security"
    PRE_START = "pre-start"
    POST_START = "post-start"
    PRE_STOP = "pre-stop"
    POST_STOP = "post-stop"
    RELOAD = "reload"
    """No part of the life: what a request to reload runs beside the main process."""


class Command(Value, frozen=True, kw_only=True):
    """One of the commands of a step, as a systemd unit's Exec lines have them."""

    argv: tuple[str, ...]
    """The words, unquoted; with `expand`, `$X` and `${X}` in them are yet to be replaced."""
    expand: bool = False
    """There are variables in it (systemd.service(5), "Command lines")."""
    ignore_failure: bool = False
    """However it ends, the next one runs, and the step has not failed because of it."""


class Process(Value, frozen=True, kw_only=True):
    """What one step of a job runs: exactly one of the four is given."""

    exec: str | None = None
    """A command line: given to `/bin/sh -e -c` if it has shell characters, else split in words."""
    script: str | None = None
    """Lines for `/bin/sh -e`."""
    argv: tuple[str, ...] = ()
    """An exact argument vector."""
    commands: tuple[Command, ...] = ()
    """One after the other; the first that fails ends it."""
    privileged: bool = False
    """As root with every capability, whatever the job says of itself."""


class Operator(StrEnum):
    """What joins two operands of an event expression."""

    AND = "and"
    OR = "or"


class Match(msgspec.Struct, frozen=True, array_like=True):
    """An operand of an event expression: an event's name and what its environment must hold.

    Arguments are glob patterns, positional ones first, then `KEY=PATTERN` and `KEY!=PATTERN`.
    """

    name: str
    arguments: tuple[str, ...] = ()


class Expression(msgspec.Struct, frozen=True):
    """`start on` or `stop on`: a tree, kept as its nodes in postfix order.

    Postfix because nothing that walks, compares or serialises it then needs the stack: a `.conf`
    may nest as deep as it likes. An operator's operands are the two subtrees before it.
    """

    nodes: tuple[Match | Operator, ...]

    def __post_init__(self) -> None:
        """ValueError when the nodes are no tree; only what was stored can say such a thing."""
        subtrees = 0
        for node in self.nodes:
            subtrees += -1 if isinstance(node, Operator) else 1
            if subtrees < 1:
                break
        if subtrees != 1:
            raise ValueError("nodes that are no tree")

    @property
    def matches(self) -> tuple[Match, ...]:
        """The operands, from left to right."""
        return tuple(node for node in self.nodes if isinstance(node, Match))


class Respawn(Value, frozen=True, kw_only=True):
    """What happens when the main process ends although the job should run."""

    enabled: bool = False
    limit: int = DEFAULT_RESPAWN_LIMIT
    """Respawns within the interval before the job is given up; 0 in either is no limit."""
    interval_s: float = DEFAULT_RESPAWN_INTERVAL_S
    delay_min_s: float = 0.0
    """Wait before the first respawn; each further one within the interval doubles it."""
    delay_max_s: float = 0.0
    never_on: tuple[int, ...] = ()
    """Ends after which it is not started again although it has failed: an exit status, or a
    signal << 8."""


class KillMode(StrEnum):
    """Whom the signals of a stop reach (systemd.kill(5) has the same words)."""

    PROCESS_GROUP = "process-group"
    """The main process's group, as Upstart does."""
    CONTROL_GROUP = "control-group"
    """Every process of the job's cgroup."""
    MIXED = "mixed"
    """The signal to the main process, SIGKILL to every process of the cgroup."""
    PROCESS = "process"
    """The main process only."""
    NONE = "none"


class Kill(Value, frozen=True, kw_only=True):
    """How the main process is stopped."""

    timeout_s: float = DEFAULT_KILL_TIMEOUT_S
    """From the signal to SIGKILL."""
    signal: int = SIGTERM
    mode: KillMode = KillMode.PROCESS_GROUP


class Expect(StrEnum):
    """What tells that the main process is ready."""

    NONE = "none"
    """Its `execve` succeeded."""
    STOP = "stop"
    """It raises SIGSTOP."""
    FORK = "fork"
    """It forks once and its parent leaves."""
    DAEMON = "daemon"
    """It forks twice."""
    NOTIFY = "notify"
    """`READY=1` as in sd_notify(3)."""
    FD = "fd"
    """A byte and a newline on a descriptor, s6's way."""
    PORT = "port"
    """A socket listens."""
    FILE = "file"
    """A path exists."""
    BUS = "bus"
    """Its name is on the system bus."""


class NotifyAccess(StrEnum):
    """Whose messages count (systemd.service(5))."""

    MAIN = "main"
    """The main process's."""
    ALL = "all"
    """Those of every process of the job, which has a socket for them whatever makes it ready."""


class Readiness(Value, frozen=True, kw_only=True):
    """When the main process counts as ready."""

    kind: Expect = Expect.NONE
    fd: int | None = None
    """The descriptor's number in the process, for `fd`."""
    port: int | None = None
    path: str | None = None
    deadline_s: float | None = None
    """It must be ready within this, or the start has failed; None waits for ever as Upstart did."""
    watchdog_s: float | None = None
    """Once ready it must say `WATCHDOG=1` at least this often, or SIGABRT ends it."""
    pid_file: str | None = None
    """The file in which a daemon that has forked away writes its pid."""
    notify_access: NotifyAccess | None = None
    """Who may send what sd_notify(3) sends; None: any process of a job that is to notify."""
    bus_name: str | None = None
    """The name on the system bus that it takes when it is ready."""


class Console(StrEnum):
    """Where standard output and error of a job's processes go."""

    NONE = "none"
    OUTPUT = "output"
    OWNER = "owner"
    LOG = "log"


class ResourceLimit(Value, frozen=True, kw_only=True):
    """A limit of setrlimit(2), by Upstart's name of it (`nofile`); `UNLIMITED` is none."""

    resource: str
    soft: int
    hard: int


class Cgroup(Value, frozen=True, kw_only=True):
    """One `cgroup` stanza: put the job into a group, and perhaps set a value of it."""

    controller: str
    name: str | None = None
    key: str | None = None
    value: str | None = None


class Resources(Value, frozen=True, kw_only=True):
    """What the job's own cgroup may use; None is no limit."""

    memory_bytes: int | None = None
    cpu: float | None = None
    """CPUs' worth of time: 0.5 is half of one."""
    pids: int | None = None


class Directory(Value, frozen=True, kw_only=True):
    """A directory that is made before the job starts, and belongs to its user."""

    path: str
    mode: int = 0o755
    kept: bool = True
    """It stays when the job has stopped."""


class EnvironmentFile(Value, frozen=True, kw_only=True):
    """A file of variables, read when a process of the job starts."""

    path: str
    """May be a glob."""
    optional: bool = False
    """It may be missing."""


class Requirement(Value, frozen=True, kw_only=True):
    """What must hold when the job is about to start (`Condition…=` and `Assert…=` of a unit)."""

    kind: str
    """The directive's name behind `Condition` or `Assert`: `PathExists`."""
    value: str
    negated: bool = False
    triggering: bool = False
    """One of those marked so is enough (`|`)."""
    asserted: bool = False
    """If it does not hold the start has failed; otherwise it is skipped, which is no failure."""


class Said(Value, frozen=True, kw_only=True):
    """Where a stanza of the job stands, so that a search can name file and line."""

    stanza: str
    file: str
    line: int
    words: tuple[str, ...] = ()
    """What it added, for a stanza that adds to others."""


class Job(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One job of a node; every source of jobs ends in this type."""

    name: str
    """Its file's path below the configuration directory without the suffix: `net/apache`."""
    exec: str | None = None
    """A command line: given to `/bin/sh -e -c` if it has shell characters, else split in words."""
    argv: tuple[str, ...] = ()
    """An exact argument vector (an OCI bundle's `process.args`); instead of `exec`."""
    script: str | None = None
    """Lines for `/bin/sh -e`; instead of `exec`. With none of these the job is a state."""
    commands: tuple[Command, ...] = ()
    """What a unit runs; instead of `exec`."""
    environment_files: tuple[EnvironmentFile, ...] = ()
    """Read when a process starts, above `environment`."""
    environment: tuple[tuple[str, str], ...] = ()
    inherit: tuple[str, ...] = ()
    """Variables taken from init's own environment (`env KEY` without a value)."""
    user: str | None = None
    """Name or number; None is the node's root."""
    group: str | None = None
    groups: tuple[str, ...] = ()
    """Supplementary groups, names or numbers, beside `group`."""
    main_is_root: bool = False
    """The main process changes to `user` by itself (`!` of a unit): it is started as root with
    `capabilities`. The other steps and the directories are the user's, without capabilities."""
    umask: int | None = None
    """None is `DEFAULT_UMASK`."""
    oom_score_adj: int | None = None
    """-1000 to 1000, as /proc/PID/oom_score_adj has it; lowering it needs CAP_SYS_RESOURCE."""
    directory: str = "/"
    """One with a `-` before it may be missing; then it is `/`."""
    capabilities: tuple[str, ...] | None = None
    """Exactly these (`NET_BIND_SERVICE`, …); None is the node's set."""
    no_new_privs: bool = False
    inert_capset: bool = False
    """capset(2) says that it succeeded and changes nothing, and no privilege can be gained: for a
    daemon that insists on capabilities that its node lacks, and gets by without them."""
    namespaces: tuple[tuple[str, str], ...] = ()
    """(`net`, node) …: run in another node's namespace of this kind."""

    security: Process | None = None
    """Loads an AppArmor profile before anything else of the job runs."""
    pre_start: Process | None = None
    post_start: Process | None = None
    pre_stop: Process | None = None
    post_stop: Process | None = None

    start_on: Expression | None = None
    stop_on: Expression | None = None
    manual: bool = False
    """`manual` was said: any `start on` above it is forgotten."""
    instance: str = ""
    """The instance's name, expanded from its environment; empty: there is one."""
    task: bool = False
    """It is done when its process ends, rather than when it runs."""
    export: tuple[str, ...] = ()
    """Variables of the job that its events carry."""
    emits: tuple[str, ...] = ()
    """Events that it says it emits; globs."""

    after: tuple[str, ...] = ()
    """Jobs that this one never starts beside: it waits until those that are starting have started,
    and they wait with stopping until it has stopped."""
    requires: tuple[str, ...] = ()
    """Jobs that must run, or have ended well, when it goes on from `starting`; or it has failed."""
    requirements: tuple[Requirement, ...] = ()
    """Of the machine, when it is about to start."""
    listens: tuple[Match, ...] = ()
    """What sources listen to while it runs, whoever waits for the event: a unit's timer, socket or
    path. `x.timer` listens to `timer NAME=x.timer CALENDAR=daily`, and `x.service` has `start on
    timer NAME=x.timer`."""

    readiness: Readiness = Readiness()
    respawn: Respawn = Respawn()
    kill: Kill = Kill()
    reload_signal: int = SIGHUP
    reload: Process | None = None
    """What a reload runs, instead of the signal; `$MAINPID` is the main process."""
    reads: str = ""
    """Digest of a configuration that it reads: a job that is the same but for it, and has `reload`,
    is told to reload."""
    normal_exit: tuple[int, ...] = ()
    """Ends of the main process that are no failure: an exit status, or a signal << 8."""

    console: Console = Console.LOG
    nice: int | None = None
    limits: tuple[ResourceLimit, ...] = ()
    chroot: str | None = None
    apparmor_switch: str | None = None
    """The profile that the main process runs under, expanded from its environment."""
    cgroups: tuple[Cgroup, ...] = ()
    debug: bool = False
    """Stop before `execve`, for a debugger to attach."""

    resources: Resources = Resources()
    private_tmp: bool = False
    readonly_paths: tuple[str, ...] = ()
    """Paths that it cannot write to; one with a `-` before it may be missing."""
    writable_paths: tuple[str, ...] = ()
    """Within these, paths that it can write to."""
    hidden_paths: tuple[str, ...] = ()
    """Paths that are empty for it."""
    directories: tuple[Directory, ...] = ()
    """Made before anything of the job runs."""
    tcp_congestion: str | None = None
    """Congestion control of its TCP sockets, `bbr` for example."""

    description: str | None = None
    author: str | None = None
    version: str | None = None
    usage: str | None = None
    """Said to a person whose `start` lacks a variable that the instance's name needs."""

    said: tuple[Said, ...] = ()

    def process(self, step: Step) -> Process | None:
        """What the job runs in this step; None when the step is empty."""
        match step:
            case Step.MAIN:
                if self.exec is None and self.script is None and not (self.argv or self.commands):
                    return None
                return Process(
                    exec=self.exec, script=self.script, argv=self.argv, commands=self.commands
                )
            case Step.SECURITY:
                return self.security
            case Step.PRE_START:
                return self.pre_start
            case Step.POST_START:
                return self.post_start
            case Step.PRE_STOP:
                return self.pre_stop
            case Step.POST_STOP:
                return self.post_stop
            case Step.RELOAD:
                return self.reload


def same_but_places(one: Job, other: Job) -> bool:
    """Whether two jobs mean the same, wherever their stanzas stand."""
    return msgspec.structs.replace(one, said=()) == msgspec.structs.replace(other, said=())
