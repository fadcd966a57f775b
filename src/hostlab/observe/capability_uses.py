"""What each capability is needed for, in words that name programs; after capabilities(7)."""

from __future__ import annotations

from typing import Final

USES: Final = {
    "CHOWN": "giving files to another user",
    "DAC_OVERRIDE": "reading and writing files against their mode, as root is used to",
    "DAC_READ_SEARCH": "backups that read every file, file handles",
    "FOWNER": "chmod and utimes of other users' files",
    "FSETID": "keeping set-uid bits when a file is changed",
    "KILL": "signalling other users' processes",
    "SETGID": "changing groups: su, login, every daemon that drops privileges",
    "SETUID": "changing users: su, login, every daemon that drops privileges",
    "SETPCAP": "changing the bounding set: container runtimes, systemd",
    "LINUX_IMMUTABLE": "chattr +i and +a",
    "NET_BIND_SERVICE": "listening below port 1024: web, mail and name servers",
    "NET_BROADCAST": "nothing; Linux does not ask for it",
    "NET_ADMIN": "addresses, routes, firewalls, tun devices: ip, nft, routing daemons",
    "NET_RAW": "raw and packet sockets: ping, tcpdump, DHCP clients, ARP tools",
    "IPC_LOCK": "locking memory: databases, gpg-agent, DPDK",
    "IPC_OWNER": "other users' System V shared memory",
    "SYS_MODULE": "loading kernel modules: modprobe",
    "SYS_RAWIO": "ports, /dev/mem, raw disks: dmidecode, hdparm, smartctl",
    "SYS_CHROOT": "chroot and joining mount namespaces: sshd, postfix, debootstrap",
    "SYS_PTRACE": "tracing other users' processes: gdb, strace, ss -p",
    "SYS_PACCT": "process accounting: accton",
    "SYS_ADMIN": "mount, namespaces, quotas: containers in the node, systemd, many tools",
    "SYS_BOOT": "reboot and kexec",
    "SYS_NICE": "higher priority and real-time scheduling: chronyd, pipewire, corosync",
    "SYS_RESOURCE": "raising limits, reserved disk space",
    "SYS_TIME": "setting the clock: chronyd, ntpd, hwclock",
    "SYS_TTY_CONFIG": "virtual consoles: getty, Xorg",
    "MKNOD": "making device nodes: udev, debootstrap",
    "LEASE": "leases on other users' files: samba",
    "AUDIT_WRITE": "writing to the audit log: sshd, login, cron through PAM",
    "AUDIT_CONTROL": "auditd, and loginuid in PAM",
    "SETFCAP": "setcap, and packages whose programs carry capabilities",
    "MAC_OVERRIDE": "going round Smack",
    "MAC_ADMIN": "loading AppArmor or Smack policy",
    "SYSLOG": "the kernel log: dmesg, rsyslog's imklog",
    "WAKE_ALARM": "timers that wake the machine: rtcwake",
    "BLOCK_SUSPEND": "keeping the machine awake",
    "AUDIT_READ": "reading the audit log by netlink: systemd-journald",
    "PERFMON": "perf",
    "BPF": "loading BPF programs: bpftrace, bpftool, systemd's IP accounting",
    "CHECKPOINT_RESTORE": "CRIU",
}
"""By the kernel's order."""

MACHINE_ONLY: Final = frozenset(
    (
        "AUDIT_CONTROL",
        "AUDIT_READ",
        "AUDIT_WRITE",
        "BLOCK_SUSPEND",
        "BPF",
        "IPC_LOCK",
        "LEASE",
        "LINUX_IMMUTABLE",
        "MAC_ADMIN",
        "MAC_OVERRIDE",
        "MKNOD",
        "PERFMON",
        "SYSLOG",
        "SYS_MODULE",
        "SYS_NICE",
        "SYS_PACCT",
        "SYS_RAWIO",
        "SYS_RESOURCE",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "WAKE_ALARM",
    )
)
"""The kernel asks for these in the initial user namespace, for all or most of their uses
(`capable` and not `ns_capable` in its source): a node that holds one does not get far with it."""
