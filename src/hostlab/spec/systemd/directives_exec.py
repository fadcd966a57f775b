"""The directives that several sections share; see `directives.py` for how the rows are read."""

from __future__ import annotations

from typing import Final

EXEC: Final = """
User + `user`
Group + `group`
SupplementaryGroups + `groups`
DynamicUser ~ no user is made up: it runs as `nobody`, or as User= if there is one
SetLoginEnvironment - USER and LOGNAME are set with User=
PAMName - a job opens no login session
WorkingDirectory + `directory`; one with `-` that is missing is `/`
RootDirectory + `chroot`
RootImage - a job has its node's files
RootImageOptions - a job has its node's files
RootEphemeral - a job has its node's files
RootHash - a job has its node's files
RootHashSignature - a job has its node's files
RootVerity - a job has its node's files
RootImagePolicy - a job has its node's files
MountImagePolicy - a job has its node's files
ExtensionImagePolicy - a job has its node's files
MountAPIVFS - a job has the node's /proc, /sys and /dev
BindLogSockets - a job has the node's /dev/log
ProtectProc - other nodes' processes are in other pid namespaces
ProcSubset - other nodes' processes are in other pid namespaces
BindPaths - a job has its node's files
BindReadOnlyPaths - a job has its node's files
MountImages - a job has its node's files
ExtensionImages - a job has its node's files
ExtensionDirectories - a job has its node's files
ExecSearchPath - a name is looked up along PATH
CapabilityBoundingSet ~ `capabilities` of root; of others the bound of AmbientCapabilities= only
AmbientCapabilities + `capabilities`, when it does not run as root
NoNewPrivileges + `no_new_privs`
SecureBits - the kernel's own rules of root and capabilities hold
SELinuxContext - this kernel has no SELinux
AppArmorProfile + `apparmor_switch`, where the kernel has AppArmor
SmackProcessLabel - this kernel has no SMACK
LimitCPU + `limits`
LimitFSIZE + `limits`
LimitDATA + `limits`
LimitSTACK + `limits`
LimitCORE + `limits`
LimitRSS + `limits`
LimitNOFILE + `limits`
LimitAS + `limits`
LimitNPROC + `limits`
LimitMEMLOCK + `limits`
LimitLOCKS - Linux has not had it since 2.4.25
LimitSIGPENDING + `limits`
LimitMSGQUEUE + `limits`
LimitNICE + `limits`
LimitRTPRIO + `limits`
LimitRTTIME - Upstart's `limit`, and so a job, has no rttime
UMask + `umask`
CoredumpFilter - cores are as the machine makes them
KeyringMode - a job has its node's keyring
OOMScoreAdjust + `oom_score_adj`
TimerSlackNSec - the kernel's own slack
Personality - a job runs as its node does
IgnoreSIGPIPE - signals are as a program finds them by default, as in Upstart
Nice + `nice`
CPUSchedulingPolicy - a node has no real-time scheduling
CPUSchedulingPriority - a node has no real-time scheduling
CPUSchedulingResetOnFork - a node has no real-time scheduling
CPUAffinity - a node's CPUs are the description's `cpus`
NUMAPolicy - memory is where the machine puts it
NUMAMask - memory is where the machine puts it
IOSchedulingClass - the machine's I/O scheduler does not know nodes
IOSchedulingPriority - the machine's I/O scheduler does not know nodes
MemoryKSM - the machine's memory is the machine's
ProtectSystem + `readonly_paths`; of `strict` what is not below /dev, /proc and /sys
ProtectHome + `readonly_paths`, or `hidden_paths`
RuntimeDirectory + `directories`, and RUNTIME_DIRECTORY
StateDirectory + `directories`, and STATE_DIRECTORY
CacheDirectory + `directories`, and CACHE_DIRECTORY
LogsDirectory + `directories`, and LOGS_DIRECTORY
ConfigurationDirectory + `directories`, and CONFIGURATION_DIRECTORY
RuntimeDirectoryMode + the mode of `directories`
StateDirectoryMode + the mode of `directories`
CacheDirectoryMode + the mode of `directories`
LogsDirectoryMode + the mode of `directories`
ConfigurationDirectoryMode + the mode of `directories`
RuntimeDirectoryPreserve + the directories are `kept`
TimeoutCleanSec - there is no `clean`
ReadWritePaths + `writable_paths`
ReadOnlyPaths + `readonly_paths`
InaccessiblePaths + `hidden_paths`
ExecPaths - a node's files are all its own
NoExecPaths - a node's files are all its own
ReadWriteDirectories + the older name of ReadWritePaths=
ReadOnlyDirectories + the older name of ReadOnlyPaths=
InaccessibleDirectories + the older name of InaccessiblePaths=
TemporaryFileSystem - a job has its node's files
PrivateTmp + `private_tmp`
PrivateDevices - a node's /dev has no device of the machine's but the harmless ones
PrivateNetwork - a job has its node's network
NetworkNamespacePath - a job has its node's network
PrivateIPC - a node has an IPC namespace of its own
IPCNamespacePath - a node has an IPC namespace of its own
PrivatePIDs - a node has a pid namespace of its own
PrivateUsers - a lab has a user namespace of its own
PrivateBPF - a node has no BPF
ProtectHostname - a node has a host name of its own
ProtectHostnameMode - a node has a host name of its own
ProtectClock - a node cannot set the clock
ProtectKernelTunables - a node's kernel settings are read-only, but for those of its network
ProtectKernelModules - a node cannot load modules
ProtectKernelLogs - a node cannot read the kernel's log
ProtectControlGroups - a job cannot leave its control group
RestrictAddressFamilies - the node's own system-call filter holds
RestrictFileSystems - a node mounts what its capabilities allow
RestrictNamespaces - the node's own system-call filter holds
LockPersonality - the node's own system-call filter holds
MemoryDenyWriteExecute - memory is as a program asks for it
RestrictRealtime - a node has no real-time scheduling
RestrictSUIDSGID - a node's files are all its own
RemoveIPC - a node's IPC objects end with the node
PrivateMounts - a job that has a mount of its own has a mount namespace of its own
MountFlags - mounts come in and none go out
SystemCallFilter - the node's own system-call filter holds
SystemCallErrorNumber - the node's own system-call filter holds
SystemCallArchitectures - the node's own system-call filter holds
SystemCallLog - the node's own system-call filter holds
Environment + `environment`
EnvironmentFile + `environment_files`, read when a process starts
PassEnvironment + `inherit`
UnsetEnvironment ~ taken out of `environment`; what a file says stays
StandardInput ~ /dev/null, the terminal with StandardOutput=tty, the connection with Accept=yes
StandardOutput ~ `console`: the log, nowhere, or the terminal; a file or socket is the log
StandardError ~ goes where StandardOutput= goes
StandardInputText - standard input is empty
StandardInputData - standard input is empty
LogLevelMax - a job's log has all that it writes
LogExtraFields - a job's log has lines, no fields
LogRateLimitIntervalSec - a job's log is bounded in size, not in rate
LogRateLimitBurst - a job's log is bounded in size, not in rate
LogFilterPatterns - a job's log has all that it writes
LogNamespace - a job has a log of its own
SyslogIdentifier - a job's log has its name
SyslogFacility - a job's log has lines, no facilities
SyslogLevel - a job's log has lines, no levels
SyslogLevelPrefix - a job's log has the prefixes as they are written
TTYPath - the node's console
TTYReset - the node's console stays as it is
TTYVHangup - the node's console stays as it is
TTYRows - the node's console has the size that it has
TTYColumns - the node's console has the size that it has
TTYVTDisallocate - a node has no virtual terminals
LoadCredential - a node has no credentials
LoadCredentialEncrypted - a node has no credentials
ImportCredential - a node has no credentials
SetCredential - a node has no credentials
SetCredentialEncrypted - a node has no credentials
UtmpIdentifier - no login is recorded
UtmpMode - no login is recorded
"""

KILL: Final = """
KillMode + `kill.mode`
KillSignal + `kill.signal`
RestartKillSignal - KillSignal= is used for a restart too
SendSIGHUP - one signal is sent, KillSignal=
SendSIGKILL ~ `no` waits for ever instead of giving up
FinalKillSignal - SIGKILL
WatchdogSignal - SIGABRT
"""

RESOURCES: Final = """
CPUAccounting - a group that is limited is counted
CPUWeight - nodes and jobs have equal shares
StartupCPUWeight - nodes and jobs have equal shares
CPUShares - nodes and jobs have equal shares
StartupCPUShares - nodes and jobs have equal shares
CPUQuota + `resources.cpu`
CPUQuotaPeriodSec - the kernel's own period
AllowedCPUs - a node's CPUs are the description's `cpus`
StartupAllowedCPUs - a node's CPUs are the description's `cpus`
AllowedMemoryNodes - memory is where the machine puts it
StartupAllowedMemoryNodes - memory is where the machine puts it
MemoryAccounting - a group that is limited is counted
MemoryMin - nothing is kept for a job
MemoryLow - nothing is kept for a job
StartupMemoryLow - nothing is kept for a job
DefaultMemoryMin - nothing is kept for a job
DefaultMemoryLow - nothing is kept for a job
DefaultStartupMemoryLow - nothing is kept for a job
MemoryHigh - there is one bound, MemoryMax=
StartupMemoryHigh - there is one bound, MemoryMax=
MemoryMax + `resources.memory_bytes`
StartupMemoryMax - there is one bound, MemoryMax=
MemorySwapMax - memory and swap are bounded together
StartupMemorySwapMax - memory and swap are bounded together
MemoryZSwapMax - memory and swap are bounded together
StartupMemoryZSwapMax - memory and swap are bounded together
MemoryZSwapWriteback - memory and swap are bounded together
MemoryLimit + the older name of MemoryMax=
MemoryPressureWatch - no pressure is reported
MemoryPressureThresholdSec - no pressure is reported
TasksAccounting - a group that is limited is counted
TasksMax ~ `resources.pids`; a share is no bound
IOAccounting - I/O is not bounded
IOWeight - I/O is not bounded
StartupIOWeight - I/O is not bounded
IODeviceWeight - I/O is not bounded
IOReadBandwidthMax - I/O is not bounded
IOWriteBandwidthMax - I/O is not bounded
IOReadIOPSMax - I/O is not bounded
IOWriteIOPSMax - I/O is not bounded
IODeviceLatencyTargetSec - I/O is not bounded
BlockIOAccounting - I/O is not bounded
BlockIOWeight - I/O is not bounded
StartupBlockIOWeight - I/O is not bounded
BlockIODeviceWeight - I/O is not bounded
BlockIOReadBandwidth - I/O is not bounded
BlockIOWriteBandwidth - I/O is not bounded
IPAccounting - the node's interfaces are counted
IPAddressAllow - the node's firewall decides
IPAddressDeny - the node's firewall decides
IPIngressFilterPath - the node's firewall decides
IPEgressFilterPath - the node's firewall decides
BPFProgram - a node has no BPF
SocketBindAllow - the node's capabilities decide
SocketBindDeny - the node's capabilities decide
RestrictNetworkInterfaces - the node's firewall decides
NFTSet - the node's firewall decides
DeviceAllow - a node's /dev has no device of the machine's but the harmless ones
DevicePolicy - a node's /dev has no device of the machine's but the harmless ones
Slice - a job's control group is below its node's
Delegate - a job's control group is its own already
DelegateSubgroup - a job's control group is its own already
DisableControllers - a job's control group has what its limits need
ManagedOOMSwap - there is no systemd-oomd
ManagedOOMMemoryPressure - there is no systemd-oomd
ManagedOOMMemoryPressureLimit - there is no systemd-oomd
ManagedOOMMemoryPressureDurationSec - there is no systemd-oomd
ManagedOOMPreference - there is no systemd-oomd
CoredumpReceive - cores are as the machine makes them
"""
