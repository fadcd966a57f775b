"""What the specifiers of units stand for here: looked up once, when the first unit is read."""

from __future__ import annotations

import contextlib
import os
import platform
import pwd
from collections.abc import Mapping
from typing import Any, Final

from hostlab.init.unit_conditions import OS_RELEASE
from hostlab.spec.systemd.environment import parse_environment_file
from hostlab.spec.systemd.specifiers import Machine

MACHINE_ID: Final = "/etc/machine-id"
BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"
_ARCHITECTURES: Final = {"x86_64": "x86-64", "aarch64": "arm64", "i686": "x86"}
_TEXT_BYTES: Final = 65536


def this_machine(environment: Mapping[str, str], *, is_user: bool = False) -> Machine:
    """The node, or the machine, as its units see it; `environment` is a user's own."""
    uid = os.geteuid()
    known: dict[str, Any] = {}
    with contextlib.suppress(KeyError):
        entry = pwd.getpwuid(uid)
        known = {"user": entry.pw_name, "home": entry.pw_dir, "shell": entry.pw_shell}
    if is_user:
        known |= _of_user(environment, known.get("home", "/"))
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        hostname=os.uname().nodename,
        machine_id=_line(MACHINE_ID),
        boot_id=_line(BOOT_ID).replace("-", ""),
        kernel=os.uname().release,
        architecture=_ARCHITECTURES.get(platform.machine(), platform.machine()),
        uid=uid,
        gid=os.getegid(),
        os_release=_os_release(),
        memory_bytes=pages if pages > 0 else None,
        **known,
    )


def _of_user(environment: Mapping[str, str], home: str) -> dict[str, str]:
    """The directories of a user's own units (systemd.unit(5), "Specifiers")."""
    config = environment.get("XDG_CONFIG_HOME") or f"{home}/.config"
    runtime = environment.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    return {
        "runtime": runtime,
        "state": config,
        "cache": environment.get("XDG_CACHE_HOME") or f"{home}/.cache",
        "logs": f"{config}/log",
        "configuration": config,
        "credentials": f"{runtime}/credentials",
    }


def _os_release() -> tuple[tuple[str, str], ...]:
    for path in OS_RELEASE:
        text = _text(path)
        if text:
            return parse_environment_file(text, file=path).variables
    return ()


def _line(path: str) -> str:
    return _text(path).partition("\n")[0].strip()


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_TEXT_BYTES)
    except OSError:
        return ""
