"""The directives of each section of its own; see `directives.py` for how the rows are read."""

from __future__ import annotations

from typing import Final

from hostlab.spec.systemd.conditions import KINDS, UNJUDGED

_JUDGED: Final = "`requirements`, judged before the first process"
_FAILS: Final = "as Condition{}=; the start fails when it does not hold"
_HOLDS: Final = "`requirements`; it cannot be judged in a node, so it holds, with a warning"


def _conditions() -> str:
    """Two rows for each kind of condition."""
    rows = []
    for kind in KINDS:
        mark = "~" if kind in UNJUDGED else "+"
        rows.append(f"Condition{kind} {mark} {_HOLDS if kind in UNJUDGED else _JUDGED}")
        rows.append(f"Assert{kind} {mark} {_HOLDS if kind in UNJUDGED else _FAILS.format(kind)}")
    return "\n".join(rows)


_UNIT: Final = """
Description + `description`
Documentation - it is for people; `systemctl cat` shows it
SourcePath - it says which file a generator made the unit from
Requires + as Wants=, `requires` if it is ordered behind it, and `stop on stopping … RESULT=ok`
Requisite + `requires`; it does not start the other unit
Wants + the other unit is started with it: `starting` or `started` of this job in its `start on`
BindsTo + as Requires=, and any end of the other unit stops this one
BindTo + the older name of BindsTo=
Upholds ~ as Wants=; a unit that ends later is not started again for it
Conflicts + each stops when the other starts: `stop on starting …` in both
Before + `after` of the other unit
After + `after`: it waits while the other unit is starting or stopping
OnSuccess + `start on stopped … RESULT=ok` of the other unit
OnFailure + `start on stopped … RESULT=failed` of the other unit
PropagatesReloadTo + a reload is passed on
PropagateReloadTo + the older name of PropagatesReloadTo=
ReloadPropagatedFrom + a reload is passed on
PropagateReloadFrom + the older name of ReloadPropagatedFrom=
PropagatesStopTo + `stop on stopping … RESULT=ok` of the other unit
StopPropagatedFrom + `stop on stopping … RESULT=ok`
PartOf + `stop on stopping … RESULT=ok`; a restart is passed on
JoinsNamespaceOf - each job has a /tmp of its own, or the node's
RequiresOverridable + the older name of Requires=
RequisiteOverridable + the older name of Requisite=
RequiresMountsFor - a node's mounts are there before any job
WantsMountsFor - a node's mounts are there before any job
StopWhenUnneeded - a job runs until it is stopped
RefuseManualStart - whoever may ask the init may start it
RefuseManualStop - whoever may ask the init may stop it
AllowIsolate + `systemctl isolate` refuses a unit without it
DefaultDependencies + `no` leaves out the ordering behind the early boot and before the shutdown
OnSuccessJobMode - there are no job modes
OnFailureJobMode - there are no job modes
OnFailureIsolate - there is no `isolate`
IgnoreOnIsolate + `systemctl isolate` leaves it running
SurviveFinalKillSignal - the end of a node is the end of all that is in it
JobTimeoutSec - only the start of a process has a time limit
JobRunningTimeoutSec - only the start of a process has a time limit
JobTimeoutAction - no job can end its node
JobTimeoutRebootArgument - no job can end its node
StartLimitIntervalSec + `respawn.interval_s`
StartLimitInterval + the older name of StartLimitIntervalSec=
StartLimitBurst + `respawn.limit`; starts by hand are not counted
StartLimitAction - no job can end its node
FailureAction - no job can end its node
SuccessAction - no job can end its node
FailureActionExitStatus - no job can end its node
SuccessActionExitStatus - no job can end its node
RebootArgument - no job can end its node
CollectMode - a job that has stopped keeps nothing but how it ended
""" + _conditions()

_INSTALL: Final = """
Alias + other names, made by `enable`
WantedBy + a Wants= of that unit, made by `enable`
RequiredBy + a Requires= of that unit, made by `enable`
UpheldBy ~ a Wants= of that unit, made by `enable`
Also + enabled and disabled together with it
DefaultInstance + which instance `enable` takes of a template
"""

_SERVICE: Final = """
Type + `readiness.kind`; a oneshot is a `task`, or a state with RemainAfterExit=
ExitType - the main process decides
RemainAfterExit ~ a oneshot is a state; another service ends with its main process
GuessMainPID - the main process of a forking service is found by its control group
PIDFile ~ `readiness.pid_file`: the process that it names, of those that are left; it is not awaited
BusName + `readiness.bus_name`: ready when the name is on the system bus, else when it runs
ExecCondition ~ before ExecStartPre=; a condition that does not hold is a failed start
ExecStartPre + `pre_start`
ExecStart + `commands`, the main process; several of a oneshot run one after the other
ExecStartPost + `post_start`
ExecReload + `reload`; `kill -SIGNAL $MAINPID` is `reload_signal`
ExecStop + `pre_stop`; of a oneshot, the begin of `post_stop`
ExecStopPost + `post_stop`
RestartSec + `respawn.delay_min_s`
RestartSteps ~ the delay doubles up to RestartMaxDelaySec=, whatever the number of steps
RestartMaxDelaySec + `respawn.delay_max_s`
TimeoutStartSec + `readiness.deadline_s`; ExecStartPre= has no limit
TimeoutStopSec + `kill.timeout_s`; ExecStop= has no limit
TimeoutAbortSec - the time of TimeoutStopSec= is given
TimeoutSec + both TimeoutStartSec= and TimeoutStopSec=
TimeoutStartFailureMode - it is stopped as always
TimeoutStopFailureMode - SIGKILL follows
RuntimeMaxSec - it runs as long as it likes
RuntimeRandomizedExtraSec - it runs as long as it likes
WatchdogSec + `readiness.watchdog_s`
Restart + `respawn`, with the ends that start it again or not
RestartMode - a respawn is always direct: nothing that depends on it sees it
SuccessExitStatus + `normal_exit`
RestartPreventExitStatus + `respawn.never_on`
RestartForceExitStatus + taken out of `respawn.never_on` and `normal_exit`
PermissionsStartOnly + the steps are `privileged`, the main process is not
RootDirectoryStartOnly - all steps have the same root directory
NonBlocking - the descriptors are handed on as they are
NotifyAccess + `readiness.notify_access`; `exec` is held as `all`
Sockets + Wants= and After= of these sockets
FileDescriptorStoreMax - the store has the bounds of the init
FileDescriptorStorePreserve - the store is kept while the job runs
USBFunctionDescriptors - nodes have no USB gadgets
USBFunctionStrings - nodes have no USB gadgets
OOMPolicy - the kernel ends what it chooses, and a job ends with its main process
OpenFile - no file is opened for it
ReloadSignal + `reload_signal`, of Type=notify-reload
StartLimitInterval + as in [Unit], where it is now
StartLimitBurst + as in [Unit], where it is now
StartLimitAction - no job can end its node
FailureAction - no job can end its node
SuccessAction - no job can end its node
RebootArgument - no job can end its node
"""

_SOCKET: Final = """
ListenStream + `listen`
ListenDatagram + `listen`
ListenSequentialPacket + `listen`
ListenFIFO + `listen`
ListenSpecial + `listen`
ListenNetlink + `listen`
ListenMessageQueue - no message queue is made
ListenUSBFunction - nodes have no USB gadgets
SocketProtocol - the protocol that goes with the kind of socket
BindIPv6Only + `ipv6_only`
Backlog + `backlog`
BindToDevice + `bind_to_device`
SocketUser + `user`
SocketGroup + `group`
SocketMode + `mode`
DirectoryMode + `directory_mode`
Accept + `accept`
Writable + `writable`
FlushPending + `flush_pending`
MaxConnections + `max_connections`
MaxConnectionsPerSource + `max_connections_per_source`
KeepAlive + `keep_alive`
KeepAliveTimeSec + `keep_alive_time_s`
KeepAliveIntervalSec + `keep_alive_interval_s`
KeepAliveProbes + `keep_alive_probes`
NoDelay + `no_delay`
Priority - sockets have the kernel's own priority
DeferAcceptSec + `defer_accept_s`
ReceiveBuffer + `receive_buffer_bytes`
SendBuffer + `send_buffer_bytes`
IPTOS - packets leave as the kernel marks them
IPTTL - packets leave as the kernel marks them
Mark - packets leave as the kernel marks them
PipeSize - pipes have the kernel's own size
MessageQueueMaxMessages - queues have the kernel's own size
MessageQueueMessageSize - queues have the kernel's own size
ReusePort + `reuse_port`
FreeBind + `free_bind`
Transparent + `transparent`
Broadcast + `broadcast`
PassCredentials + `pass_credentials`
PassPIDFD - a program asks for it itself
PassSecurity - there is no security label to pass
PassPacketInfo + `pass_packet_info`
AcceptFileDescriptors - descriptors are accepted as the kernel does
Timestamping - a program asks for it itself
TCPCongestion + `tcp_congestion`
ExecStartPre - a socket runs nothing
ExecStartPost - a socket runs nothing
ExecStopPre - a socket runs nothing
ExecStopPost - a socket runs nothing
TimeoutSec - a socket runs nothing
RemoveOnStop + `remove_on_stop`
Symlinks + `symlinks`
FileDescriptorName + `name`
Service + `service`
TriggerLimitIntervalSec + `trigger_limit_interval_s`
TriggerLimitBurst + `trigger_limit_burst`
PollLimitIntervalSec - there is one limit, TriggerLimitBurst=
PollLimitBurst - there is one limit, TriggerLimitBurst=
SmackLabel - this kernel has no SMACK
SmackLabelIPIn - this kernel has no SMACK
SmackLabelIPOut - this kernel has no SMACK
SELinuxContextFromNet - this kernel has no SELinux
PassFileDescriptorsToExec - a socket runs nothing
"""

_TIMER: Final = """
OnCalendar + `calendar`
OnActiveSec + `repeated`
OnBootSec + `repeated`; it counts from init's start, as in a container
OnStartupSec + `repeated`
OnUnitActiveSec + `repeated`
OnUnitInactiveSec + `repeated`
OnClockChange + `on_clock_change`
OnTimezoneChange + `on_timezone_change`
AccuracySec + `accuracy_s`; a timer comes at its time, which is within every accuracy
RandomizedDelaySec + `randomized_delay_s`
RandomizedOffsetSec - the delay of RandomizedDelaySec= is the only one
FixedRandomDelay + `fixed_random_delay`
DeferReactivation - a time that comes while the unit runs comes when that has ended
Persistent + `persistent`
WakeSystem - a node does not sleep
RemainAfterElapse + `remain_after_elapse`
Unit + `unit`
"""

_PATH: Final = """
PathExists + `watched`
PathExistsGlob + `watched`
PathChanged + `watched`
PathModified + `watched`
DirectoryNotEmpty + `watched`
Unit + `unit`
MakeDirectory + `make_directory`
DirectoryMode + `directory_mode`
TriggerLimitIntervalSec + `trigger_limit_interval_s`
TriggerLimitBurst + `trigger_limit_burst`
"""

_MOUNT: Final = """
What - x
Where - x
Type - x
Options - x
SloppyOptions - x
LazyUnmount - x
ReadWriteOnly - x
ForceUnmount - x
DirectoryMode - x
TimeoutSec - x
"""
_AUTOMOUNT: Final = """
Where - x
ExtraOptions - x
DirectoryMode - x
TimeoutIdleSec - x
"""
_SWAP: Final = """
What - x
Priority - x
Options - x
TimeoutSec - x
"""
_SCOPE: Final = """
RuntimeMaxSec - x
RuntimeRandomizedExtraSec - x
TimeoutStopSec - x
OOMPolicy - x
"""

OWN: Final = {
    "Unit": _UNIT,
    "Install": _INSTALL,
    "Service": _SERVICE,
    "Socket": _SOCKET,
    "Timer": _TIMER,
    "Path": _PATH,
    "Slice": "",
    "Mount": _MOUNT,
    "Automount": _AUTOMOUNT,
    "Swap": _SWAP,
    "Scope": _SCOPE,
}
"""Section -> its rows, without those that several sections share."""
