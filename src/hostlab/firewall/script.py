"""Running what the user has in a node: scripts traced, dumps and nft files by their own tools.

A script runs unchanged, in its own shell, at its own path. No process is added to a call of
iptables: what ran where is read from the shell's own trace (`trace.py`). Programs that would change
the machine and not its packet filter (`systemctl`, `modprobe`, `mount`) are replaced in the node by
one that notes its arguments, and so is `main`, which stands before what only the real machine is to
do ("Staging a Netfilter ruleset in a network namespace", 2014).
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import shlex
import signal
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from hostlab.errors import Failed, Place, Unsupported
from hostlab.firewall import trace
from hostlab.firewall.here import run_in_network
from hostlab.firewall.source import STDIN_NAME, Kind, Part, Source, shell_of
from hostlab.firewall.stage import StageNode
from hostlab.firewall.trace import Call, Texts
from hostlab.lab.access import Completed, CutOff, NodeConnection
from hostlab.lab.rootfs import OWN_MOUNTS
from hostlab.linux.procfs import with_environment

TIME_LIMIT_S: Final = 60.0
OUTPUT_LIMIT_BYTES: Final = 16 << 20
"""Of what a script writes; more is a loop without an end."""
PLACE: Final = "/run/.hostlab-stage"
"""Of a node: what is put there for a script, and what is noted."""
DRIVER: Final = f"{PLACE}/driver"
NOTED: Final = f"{PLACE}/noted"
MAIN: Final = "main"
NOTING: Final = (
    MAIN,
    "modprobe",
    "insmod",
    "rmmod",
    "depmod",
    "systemctl",
    "service",
    "invoke-rc.d",
    "update-rc.d",
    "mount",
    "umount",
    "reboot",
    "shutdown",
)
"""Programs whose calls are noted instead of carried out."""
_NOTE: Final = f"""#!/bin/sh
{{ printf '%s\\0' "$#" "${{0##*/}}"; [ $# -eq 0 ] || printf '%s\\0' "$@"; }} >> {NOTED}
case "${{0##*/}}:$1" in
systemctl:is-*|systemctl:status) exit 3 ;;
service:*) [ "$2" != status ] || exit 3 ;;
esac
exit 0
"""
_PATH: Final = f"{PLACE}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NEIGHBOURS: Final = 2_000
NEIGHBOUR_BYTES: Final = 16 << 20
"""What is copied of a script's directory where a node does not see it."""
_TEXT_BYTES: Final = 4 << 20


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a source's parts."""

    calls: tuple[Call, ...]
    status: int | None
    """Of the script; None: it was ended for its time or its output."""
    cut_off: str = ""
    """Why it was ended."""
    output: str = ""
    """Its standard output."""
    noted: tuple[tuple[str, ...], ...] = ()
    """Calls of `NOTING`, in their order."""
    remarks: tuple[str, ...] = ()
    texts: Texts
    """The files that places are in."""


def run(
    node: StageNode,
    source: Source,
    *,
    arguments: Sequence[str] = (),
    time_limit_s: float = TIME_LIMIT_S,
) -> Ran:
    """Do in a node what the source says; a failure of it is in the answer, not raised."""
    if not any(part.kind is Kind.SCRIPT for part in source.parts):
        return _loaded(node, source, time_limit_s)
    return _Script(node, source, arguments, time_limit_s).run()


def tool_of(part: Part) -> tuple[str, ...]:
    """The command that takes a part from its standard input."""
    match part.kind:
        case Kind.DUMP:
            variant = f"-{part.variant}" if part.variant else ""
            return (f"ip{'6' if part.is_ipv6 else ''}tables{variant}-restore",)
        case Kind.IPSET:
            return ("ipset", "restore")
        case _:
            path = os.path.abspath(part.path) if part.path != STDIN_NAME else f"{os.getcwd()}/-"
            return ("nft", "-I", os.path.dirname(path), "-f", "-")


def _loaded(node: StageNode, source: Source, time_limit_s: float) -> Ran:
    """Dumps and nft files, one after another; their tools need no shell, and no confinement."""
    calls = []
    cut_off = ""
    deadline = time.monotonic() + time_limit_s
    for part in source.parts:
        words = tool_of(part)
        left = deadline - time.monotonic()
        try:
            done = _load(node, source, part, words, max(left, 0.001))
            status, text = done.status, done.stderr.decode(errors="replace").strip()
        except TimeoutError as late:
            status, text, cut_off = 1, "", str(late)
        place = Place(part.path, part.first_line, 1)
        calls.append(
            Call(
                text=" ".join(words), words=words, place=place, status=status, said=text, part=part
            )
        )
        if cut_off:
            break
    texts = Texts(read_text, {})
    return Ran(calls=tuple(calls), status=None if cut_off else 0, cut_off=cut_off, texts=texts)


def _load(
    node: StageNode, source: Source, part: Part, words: Sequence[str], timeout_s: float
) -> Completed:
    """One part; an nft file from outside the node, for it may include others, and large ones."""
    if part.kind is Kind.NFT:
        try:
            return run_in_network(node.pid, words, stdin=_bytes(part), timeout_s=timeout_s)
        except PermissionError:
            _copy_in(node, source, {})
    return node.tool(words, stdin=_bytes(part), timeout_s=timeout_s)


def _bytes(part: Part) -> bytes:
    """A file's own bytes, which may be no UTF-8; of a piece its text."""
    if part.is_whole and part.path != STDIN_NAME:
        with open(part.path, "rb") as file:
            return file.read()
    return part.text.encode()


class _Script:
    """One run of a source that has a script in it."""

    def __init__(
        self,
        node: StageNode,
        source: Source,
        arguments: Sequence[str],
        time_limit_s: float,
    ) -> None:
        self.node = node
        self.source = source
        self.arguments = tuple(arguments)
        self.time_limit_s = time_limit_s
        self.nonce = secrets.token_hex(8)
        self.shell, self.options = shell_of(source)
        self.driven = len(source.parts) > 1 or source.is_directory
        first = source.parts[0]
        self.main = DRIVER if self.driven else _path_in_node(first)
        self.files: dict[str, bytes] = {}
        self.elsewhere: list[str] = []
        """What files of the node have of the trace."""

    def run(self) -> Ran:
        """Prepare the node, run it, read what it noted."""
        self._prepare()
        remarks = _copy_in(self.node, self.source, self.files)
        cut_off, status, stdout, stderr = "", None, b"", b""
        try:
            done = self._execute()
            status, stdout, stderr = done.status, done.stdout, done.stderr
        except CutOff as cut:
            cut_off, stdout, stderr = str(cut), cut.stdout, cut.stderr
        except Failed as failed:
            if failed.code != "not-found":
                raise
            hint = f"apt-get install {self.shell}"
            raise Unsupported("no-shell", f"{self.shell} is not here", hint=hint) from None
        finally:
            _end_leftovers(f"HOSTLAB_STAGED={self.nonce}".encode())
        texts = Texts(self._text, {DRIVER: self.files.get(DRIVER, b"").decode(errors="replace")})
        stream, output = stderr.decode(errors="replace"), stdout.decode(errors="replace")
        remarks += self._moved(texts)
        for moved in (output, *self.elsewhere):
            if self.nonce in moved:
                stream = f"{stream}\n{moved}"
        calls = trace.read(
            stream,
            nonce=self.nonce,
            main=self.main,
            texts=texts,
            status=status,
        )
        return Ran(
            calls=tuple(self._shown(call) for call in calls),
            status=status,
            cut_off=cut_off,
            output="" if self.nonce in output else output,
            noted=tuple(_noted(self.node)),
            remarks=remarks,
            texts=texts,
        )

    def _moved(self, texts: Texts) -> tuple[str, ...]:
        """Follow a script's standard error, and with it the trace: `exec 2>/var/log/firewall`."""
        for part in self.source.parts:
            if part.kind is not Kind.SCRIPT:
                continue
            for command in texts.commands(_path_in_node(part)):
                to = command.errors_to if command.first == "exec" else ""
                if command.first == "exec" and command.is_silenced:
                    hint = "" if self.shell == "bash" else ": what fails behind it is not seen"
                    return (f"{part.path}:{command.line} closes standard error{hint}",)
                if to.startswith("/") and "*" not in to:
                    found = self.node.execute(("cat", to), output_limit_bytes=OUTPUT_LIMIT_BYTES)
                    self.elsewhere.append(found.stdout.decode(errors="replace"))
        return ()

    def _execute(self) -> Completed:
        flag = "-vx" if self.shell == "sh" else "-x"
        flags = () if self.shell == "bash" else (flag,)
        environment = {
            "PATH": _PATH,
            "HOSTLAB_STAGED": self.nonce,
            "PS4": trace.mark(self.nonce, self.shell),
        }
        if self.shell == "bash":
            environment["BASH_ENV"] = f"{PLACE}/trace.bash"
        return self.node.execute(
            (self.shell, *self.options, *flags, self.main, *self.arguments),
            timeout_s=self.time_limit_s,
            output_limit_bytes=OUTPUT_LIMIT_BYTES,
            directory=_directory_in(self.node),
            environment=environment,
        )

    def _prepare(self) -> None:
        self.files |= {f"{PLACE}/bin/{name}": _NOTE.encode() for name in NOTING}
        self.files[NOTED] = b""
        if self.shell == "bash":
            mark = trace.mark(self.nonce, "bash")
            self.files[f"{PLACE}/trace.bash"] = (
                f"unset BASH_ENV\nexec {{BASH_XTRACEFD}}>&2\nPS4='{mark}'\nset -x\n".encode()
            )
        for number, part in enumerate(self.source.parts):
            if part.path == STDIN_NAME or not part.is_whole:
                self.files[f"{PLACE}/part{number}"] = part.text.encode()
        if self.driven:
            self.files[DRIVER] = "".join(
                self._line(number, part) for number, part in enumerate(self.source.parts)
            ).encode()

    def _line(self, number: int, part: Part) -> str:
        path = _path_in_node(part) if part.is_whole else f"{PLACE}/part{number}"
        quoted = shlex.quote(path)
        if part.kind is Kind.SCRIPT:
            return f". {quoted if '/' in path else './' + quoted}\n"
        return f"{shlex.join(tool_of(part))} < {quoted}\n"

    def _text(self, file: str) -> str | None:
        """The text of a file of the script, from the machine: the node shows the same."""
        if file in (f"{PLACE}/part0", STDIN_NAME):
            return self.source.parts[0].text
        for part in self.source.parts:
            if part.path == file and part.is_whole:
                return part.text
        return read_text(file)

    def _shown(self, call: Call) -> Call:
        """With places that the user knows."""
        place = call.place
        if place is None:
            return call
        if place.file == f"{PLACE}/part0":
            shown = Place(STDIN_NAME, place.line, place.column, place.text)
            return msgspec.structs.replace(call, place=shown)
        if place.file == DRIVER and 0 < place.line <= len(self.source.parts):
            part = self.source.parts[place.line - 1]
            shown = Place(part.path, part.first_line, 1)
            loads = part if part.kind is not Kind.SCRIPT else None
            return msgspec.structs.replace(call, place=shown, part=loads, written=None)
        return call


def _path_in_node(part: Part) -> str:
    return f"{PLACE}/part0" if part.path == STDIN_NAME else part.path


def read_text(file: str) -> str | None:
    """A regular file's text; None where there is none to be read."""
    try:
        if not os.path.isfile(file) or os.path.getsize(file) > _TEXT_BYTES:
            return None
        with open(file, errors="replace") as opened:
            return opened.read()
    except (OSError, ValueError):
        return None


def _directory_in(node: NodeConnection) -> str:
    """The caller's directory where the node has it, so that relative paths mean the same."""
    here = os.getcwd()
    return here if os.path.isdir(f"/proc/{node.pid}/root{here}") else "/"


_UNPACK: Final = f"""
tar -x -C / --no-same-owner -f - || exit 1
for place in /sbin /usr/sbin; do
    rm -f $place/{MAIN} $place/modprobe
    cp {PLACE}/bin/{MAIN} {PLACE}/bin/modprobe $place/
done 2>/dev/null
exit 0
"""
"""A script may set PATH, or name /sbin/modprobe; where the node cannot write there, it stays."""


def _copy_in(node: NodeConnection, source: Source, files: Mapping[str, bytes]) -> tuple[str, ...]:
    """Put files into the node, and the source's own directories where the node does not see them.

    The caller's directory is there in any case, for what is named from it.
    """
    archive = io.BytesIO()
    remarks: list[str] = []
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, data in files.items():
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size, member.mode = len(data), 0o755
            tar.addfile(member, io.BytesIO(data))
        if not _is_seen(node, os.getcwd() + "/."):
            _add_directory(tar, os.getcwd())
        for directory in _unseen(node, source):
            remarks += _add_tree(tar, directory, source)
    done = node.execute(("sh", "-c", _UNPACK), stdin=archive.getvalue())
    if done.status:
        said = done.stderr.decode(errors="replace").strip()
        raise Failed("stage", f"the script's files cannot be put into the stage: {said}")
    return tuple(remarks)


def _unseen(node: NodeConnection, source: Source) -> list[str]:
    """The topmost directories of files that a node has for itself, or does not see."""
    here = os.getcwd()
    found = set()
    for part in source.parts:
        path = os.path.abspath(part.path)
        if part.path != STDIN_NAME and not _is_seen(node, path):
            found.add(here if path.startswith(f"{here}/") else os.path.dirname(path))
    return sorted(found)


def _is_seen(node: NodeConnection, path: str) -> bool:
    own = any(path.startswith(f"{place}/") for place in OWN_MOUNTS)
    return not own and os.path.exists(f"/proc/{node.pid}/root{path}")


def _add_tree(tar: tarfile.TarFile, top: str, source: Source) -> Iterator[str]:
    """A directory's files, unless they are too many: then those of the source only."""
    paths = list(_small_tree(top))
    if len(paths) > NEIGHBOURS:
        yield f"{top} has more files than a stage takes: the ruleset's own were copied, no others"
        paths = [os.path.abspath(part.path) for part in source.parts]
    room = NEIGHBOUR_BYTES
    own = {os.path.abspath(part.path) for part in source.parts if part.path != STDIN_NAME}
    _add_directory(tar, top)
    for path in paths:
        with contextlib.suppress(OSError):
            size = os.lstat(path).st_size
            if path in own or size <= room:
                room -= 0 if path in own else size
                tar.add(path, path.lstrip("/"), recursive=False)


def _add_directory(tar: tarfile.TarFile, path: str) -> None:
    member = tarfile.TarInfo(path.lstrip("/"))
    member.type, member.mode = tarfile.DIRTYPE, 0o755
    tar.addfile(member)


def _small_tree(top: str) -> Iterator[str]:
    """Regular files, links and directories below `top`, one more than are taken at most."""
    count = 0
    for directory, directories, names in os.walk(top):
        for name in (*directories, *names):
            path = os.path.join(directory, name)
            if os.path.islink(path) or os.path.isfile(path) or os.path.isdir(path):
                yield path
                count += 1
                if count > NEIGHBOURS:
                    return


def _noted(node: NodeConnection) -> Iterator[tuple[str, ...]]:
    fields = node.execute(("cat", NOTED)).stdout.decode(errors="replace").split("\0")
    at = 0
    while at + 1 < len(fields) and fields[at].isdecimal():
        end = at + 2 + int(fields[at])
        yield tuple(fields[at + 1 : end])
        at = end


def _end_leftovers(entry: bytes) -> None:
    """End what a script left running: it could change the rules while they are looked at."""
    for pid in with_environment(entry):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
