"""A server's certificate has expired: another file is mounted over the one it reads.

The file itself is never touched, so what comes back is what was there, whatever happens on the way.
The private key goes from the node to the process that signs and nowhere else: what is written down
has the new certificate only.
"""

from __future__ import annotations

import os
import signal
import stat
from datetime import UTC, datetime
from typing import Final

from hostlab.api import Node
from hostlab.errors import Failed, UsageError
from hostlab.faults import expiry, files, jobs
from hostlab.faults.expiry import Pem
from hostlab.faults.site import Site, State
from hostlab.spec.faults import option
from hostlab.spec.job import Step
from hostlab.spec.model import Fault

MOST_BYTES: Final = 1 << 20
"""Of a file with certificates or a key."""


def look(site: Site, fault: Fault, number: int) -> State:
    """Make the certificate; refuse where a file or a key is not what it must be."""
    expiry.load()
    state: State = {"life": site.life(fault.on), "name": files.name_of(number)}
    path: str = option(fault, "path")
    served = _read(site, fault.on, path)
    key, issuer_key = (
        _read(site, *_place(fault, each)) if option(fault, each) else None
        for each in ("key", "issuer_key")
    )
    block = expiry.expired(served, key, issuer_key, datetime.now(UTC))
    if option(fault, "job"):
        state["reload"] = _reloads(site, fault)
    return state | {"path": path, "certificate": block}


def _place(fault: Fault, name: str) -> tuple[str, str]:
    """The node and the path of a key."""
    node, _, path = option(fault, name).rpartition(":")
    return node or fault.on, path


def _read(site: Site, node: str, path: str) -> Pem:
    def work() -> tuple[str, str]:
        try:
            # A pipe is told from a file before anybody waits for a writer.
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            return "", error.strerror or str(error)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return "", "is no file"
        with open(fd, "rb") as file:
            data = file.read(MOST_BYTES + 1)
        return str(data, "latin-1"), "is too large" if len(data) > MOST_BYTES else ""

    site.pid(node)
    text, trouble = site.in_files(node, work)
    where = f"{path} of node {node}"
    if trouble:
        raise UsageError("fault", f"{where}: {trouble}")
    return Pem(text, where)


def _reloads(site: Site, fault: Fault) -> bool:
    """Whether the job is told to reload; Failed when it does not run, or would not see it then."""
    of_job = Fault(kind=fault.kind, on=f"{fault.on}/{option(fault, 'job')}")
    pid = jobs.look(site, of_job, 0)["processes"][0][0]
    node, name = jobs.init_of(site, of_job)
    how = option(fault, "how") or _how(node, name)
    # A job that has mounts of its own sees ours only when it begins.
    is_apart = os.stat(f"/proc/{pid}/ns/mnt").st_ino != os.stat(f"/proc/{node.pid}/ns/mnt").st_ino
    if is_apart and option(fault, "how") == "reload":
        message = f"job {name} of node {node.name} has mounts of its own: it sees no other file yet"
        raise Failed("fault", message, hint="how=restart")
    return bool(how == "reload") and not is_apart


def _how(node: Node, name: str) -> str:
    """Every job has a signal, HUP; one that says nothing of it may be ended by it."""
    for job in node.configuration():
        if job.name == name and (
            job.process(Step.RELOAD) is not None or job.reload_signal != signal.SIGHUP
        ):
            return "reload"
    return "restart"


def show(site: Site, fault: Fault, state: State) -> None:
    """Mount the changed file over the old one, with its mode and owner, and tell the job."""

    def work() -> str:
        try:
            with open(state["path"], "rb") as file:
                text = str(file.read(), "latin-1")
                found = os.fstat(file.fileno())
            new = expiry.with_first(text, state["certificate"]).encode("latin-1")
            owner = (found.st_uid, found.st_gid)
            mode = stat.S_IMODE(found.st_mode)
            files.cover(state["path"], state["name"], new, mode=mode, owner=owner)
        except OSError as error:
            return error.strerror or str(error)
        return ""

    if trouble := site.in_files(fault.on, work):
        message = f"{state['path']} of node {fault.on} cannot be covered: {trouble}"
        raise Failed("fault", message)
    _tell(site, fault, state)


def hide(site: Site, fault: Fault, state: State) -> None:
    """Take the mount away, and tell the job, also when it may have heard of it."""
    if not site.is_alive(fault.on, state["life"]):
        return
    files.uncover(site, fault.on, state["name"])
    _tell(site, fault, state)


def _tell(site: Site, fault: Fault, state: State) -> None:
    """Have the job read its certificate, unless it has ended meanwhile."""
    if "reload" not in state:
        return
    of_job = Fault(kind=fault.kind, on=f"{fault.on}/{option(fault, 'job')}")
    node, name = jobs.init_of(site, of_job)
    node.wait_settled()
    rows, _ = node.status_of(name)
    if any(row["state"] == "running" for row in rows):
        node.job(name, "reload" if state["reload"] else "restart")
