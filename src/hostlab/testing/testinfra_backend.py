"""Backends of testinfra: a node or this machine, and a host by ssh over one connection.

A command of a node is run by the node's own init, within all of its namespaces, its cgroup and its
walls: no ssh, no process on this side.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shlex
import shutil
import subprocess
import tempfile
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.backend.ssh import SshBackend

from hostlab.errors import UsageError
from hostlab.testing.testinfra_modules import MODULES

if TYPE_CHECKING:
    from testinfra.host import Host

    from hostlab.api import Node

BY_USER: Final = (
    "if command -v sudo >/dev/null 2>&1; then exec sudo {sudo} /bin/sh -c {command};"
    " else exec runuser -u {user} -- /bin/sh -c {command}; fi"
)
"""Debian has runuser in every system (util-linux), sudo only where it was installed."""
HANG_UP_S: Final = 10.0
"""So long ssh may take to end a connection; one that hangs is left to its ControlPersist."""


class _WithModules(BaseBackend):
    """A backend whose hosts have hostlab's modules beside testinfra's."""

    def set_host(self, host: Host) -> None:
        super().set_host(host)
        for name, module in MODULES.items():
            setattr(host, name, module.get_module(host))

    def get_sudo_command(self, command: str, sudo_user: str | None) -> str:
        quoted = shlex.quote(command)
        user = shlex.quote(sudo_user or "root")
        sudo = f"-u {user}" if sudo_user else ""
        script = BY_USER.format(sudo=sudo, user=user, command=quoted)
        return f"/bin/sh -c {shlex.quote(script)}"


class HostlabBackend(_WithModules):
    """`hostlab://LAB/NODE`, and this machine as `hostlab://`."""

    NAME = "hostlab"

    def __init__(self, hostspec: str = "", *args: Any, **keywords: Any) -> None:
        keywords.pop("connection", None)
        super().__init__(hostspec, *args, **keywords)

    def get_pytest_id(self) -> str:
        return f"hostlab://{self.hostname}"

    @classmethod
    def get_hosts(cls, host: str | None, **keywords: Any) -> list[str]:
        """`LAB/NODE` of each node that is meant; UsageError when there is none such."""
        from hostlab.api import Lab

        if not host:
            return [""]
        name, _, pattern = host.partition("/")
        names = [node.name for node in Lab(name).description.nodes]
        found = [each for each in names if fnmatchcase(each, pattern or "*")]
        if not found:
            known = ", ".join(names[:20])
            raise UsageError("no-node", f"lab {name} has no node {pattern}", hint=f"it has {known}")
        return [f"{name}/{each}" for each in found]

    @functools.cached_property
    def node(self) -> Node:
        """The node; UsageError when this is the machine."""
        from hostlab.api import Lab

        name, _, node = self.hostname.partition("/")
        if not node:
            raise UsageError("no-node", "this host is no node of a lab")
        return Lab(name)[node]

    @property
    def is_node(self) -> bool:
        """Whether it is a node, and not the machine."""
        return bool(self.hostname)

    def run(self, command: str, *args: str, **keywords: Any) -> CommandResult:
        whole = self.get_command(command, *args)
        if not self.is_node:
            return self.run_local(whole)
        data = os.fsencode(whole)
        done = self.node.shell(whole)
        return self.result(done.status, data, done.stdout, done.stderr)


class MultiplexedSshBackend(_WithModules, SshBackend):
    """`hostlab+ssh://[USER@]HOST[:PORT]`: testinfra's, with a connection that all commands share.

    testinfra says ControlMaster too, but no ControlPath, so by itself nothing is shared.
    """

    NAME = "hostlab+ssh"

    def __init__(self, hostspec: str, *args: Any, **keywords: Any) -> None:
        keywords.pop("connection", None)
        if not keywords.get("controlpath"):
            # testinfra formats the command once.
            keywords["controlpath"] = f"{_sockets()}/%%C"
        super().__init__(hostspec, *args, **keywords)

    def get_pytest_id(self) -> str:
        return f"hostlab+ssh://{self.get_hostname()}"


@functools.cache
def _sockets() -> str:
    """A directory for the connections of this process; they and it go with it."""
    directory = tempfile.mkdtemp(prefix="hostlab-ssh-")
    atexit.register(_hang_up, directory)
    return directory


def _hang_up(directory: str) -> None:
    for name in os.listdir(directory):
        words = ["ssh", "-o", f"ControlPath={directory}/{name}", "-O", "exit", "host"]
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(words, capture_output=True, check=False, timeout=HANG_UP_S)
    shutil.rmtree(directory, ignore_errors=True)
