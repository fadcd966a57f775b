"""The way from initctl's clients to a supervisor: a FIFO and files (see `initctl_client`).

The FIFO is the holder's as well, so that a client finds it open also while there is no supervisor.
A supervisor that takes over looks at the directory: whoever waits there is served, and what the
engine took from it already is not done twice (`initctl_requests`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from typing import Any, Final

from hostlab.errors import DecodeError
from hostlab.init.initctl.answer_pipe import AnswerPipe
from hostlab.init.initctl.files import (
    MAX_NAME_BYTES,
    TOKEN_PREFIX,
    Asker,
    find_asker,
    is_name,
    is_waiting,
    open_answer,
    read_request,
    sweep,
    write_answer,
)
from hostlab.init.initctl.programs import Initctl
from hostlab.init.initctl.script import DEFAULT_DIRECTORY
from hostlab.init.initctl.surroundings import Answer, Command, Init

KEPT_AS: Final = "initctl"
"""The FIFO's name among what the holder keeps."""
REQUESTS: Final = "requests"
HOLDER: Final = "holder"
MAX_ASKERS: Final = 4096
"""Clients served at once; a further one is told that there are too many."""
MAX_HELD_BYTES: Final = 64 * 2**20
"""Of all requests that are being served; a further one is told so."""
READ_BYTES: Final = 65536
SWEEP_EVERY: Final = 1000
"""Requests served between two looks for files that clients left."""
MAX_SWEPT: Final = 100_000
"""Entries of the directory that are looked at when a supervisor starts."""


Program = Callable[[Command], Awaitable[Answer]]


class InitctlServer:
    """Serves the clients in one directory."""

    def __init__(
        self,
        init: Init,
        *,
        keep: Callable[[str, int], None],
        kept: Mapping[str, int],
        holder: int,
        directory: str = DEFAULT_DIRECTORY,
        log: Callable[[str], None] = lambda _: None,
        programs: Callable[[str], Program | None] = lambda name: None,
    ) -> None:
        """`keep` has the holder keep a descriptor, `kept` is what it kept; `holder` is its pid.

        `programs` tells what is served beside Upstart's, by its name.
        """
        self.programs = programs
        self.init = init
        self.keep = keep
        self.log = log
        self.initctl = Initctl(init, is_waiting=self._is_waiting)
        self.directory = directory
        self._holder = holder
        self._place = -1
        self._requests = kept.get(KEPT_AS, -1)
        self._cut = b""
        self._serving: dict[str, tuple[Asker, asyncio.Task[None]]] = {}
        self._held_bytes = 0
        self._answers = 0

    def start(self) -> None:
        """Make the directory, and serve; OSError when it cannot be made."""
        _make_directory(self.directory)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        self._place = os.open(self.directory, flags)
        os.fchmod(self._place, 0o700)
        self._open_requests()
        self._write_holder()
        asyncio.get_running_loop().add_reader(self._requests, self._readable)
        self._take_over()

    async def close(self) -> None:
        """Serve no longer; who waits goes on waiting, for the next supervisor."""
        if self._place < 0:
            return
        asyncio.get_running_loop().remove_reader(self._requests)
        tasks = [task for _, task in self._serving.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        os.close(self._requests)
        os.close(self._place)
        self._place = -1

    async def end(self) -> None:
        """This init ends, and no supervisor comes after: who waits is told."""
        for asker, _ in list(self._serving.values()):
            write_answer(self._place, asker, Answer(1, err="initctl: Disconnected from Upstart\n"))
        for name in (HOLDER, REQUESTS):
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self._place)
        await self.close()

    def _open_requests(self) -> None:
        """The FIFO that the holder kept, or a new one where it is not the one that has the name."""
        try:
            named = os.stat(REQUESTS, dir_fd=self._place, follow_symlinks=False)
        except FileNotFoundError:
            named = None
        if self._requests >= 0:
            mine = os.fstat(self._requests)
            if named is not None and (named.st_dev, named.st_ino) == (mine.st_dev, mine.st_ino):
                return
            os.close(self._requests)
        # What has the name may be something that was planted, or of an init that is gone.
        _discard(self._place, REQUESTS)
        os.mkfifo(REQUESTS, 0o600, dir_fd=self._place)
        flags = os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        self._requests = os.open(REQUESTS, flags, dir_fd=self._place)
        if not stat.S_ISFIFO(os.fstat(self._requests).st_mode):
            raise OSError(0, f"{self.directory}/{REQUESTS} was replaced at once")
        self.keep(KEPT_AS, self._requests)

    def _write_holder(self) -> None:
        made = f".{HOLDER}"
        _discard(self._place, made)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(made, flags, 0o600, dir_fd=self._place), "w") as file:
            file.write(f"{self._holder}\n")
        _discard(self._place, HOLDER, only_directory=True)
        os.rename(made, HOLDER, src_dir_fd=self._place, dst_dir_fd=self._place)

    def _take_over(self) -> None:
        """Serve who waits from before; take away what those left who have gone."""
        waiting = self._sweep()
        for asker in waiting:
            self._serve(asker)
        self.init.forget_others(TOKEN_PREFIX, frozenset(asker.token for asker in waiting))

    def _sweep(self) -> list[Asker]:
        """Who waits and is not being served; what is left of others goes."""
        with os.scandir(self._place) as entries:
            names = [entry.name for entry in islice(entries, MAX_SWEPT)]
        # While one is served nobody else may get its name, or it would get its answer too.
        busy = self._serving
        return sweep(
            self._place,
            (each for each in names if each not in busy and each.rpartition(".")[0] not in busy),
        )

    def _readable(self) -> None:
        try:
            data = os.read(self._requests, READ_BYTES)
        except BlockingIOError:
            return
        *lines, cut = (self._cut + data).split(b"\n")
        self._cut = cut[:MAX_NAME_BYTES]
        for line in dict.fromkeys(lines):
            name = line.decode("ascii", errors="replace")
            asker = find_asker(self._place, name) if is_name(name) else None
            if asker is not None:
                self._serve(asker)

    def _serve(self, asker: Asker) -> None:
        """Serve one client, unless that is being done."""
        known = self._serving.get(asker.name)
        if known is not None and known[0] == asker:
            return
        if len(self._serving) >= MAX_ASKERS:
            text = f"initctl: more than {MAX_ASKERS} requests wait\n"
            write_answer(self._place, asker, Answer(1, err=text))
            return
        task = asyncio.ensure_future(self._answer(asker))
        self._serving[asker.name] = (asker, task)
        task.add_done_callback(lambda done: self._served(asker, done))

    def _served(self, asker: Asker, task: asyncio.Task[Any] | None) -> None:
        if self._serving.get(asker.name) == (asker, task):
            del self._serving[asker.name]

    async def _answer(self, asker: Asker) -> None:
        try:
            command = read_request(self._place, asker)
            if command is None:
                # It is still being written: the client says when it is done, perhaps at once.
                self._served(asker, asyncio.current_task())
                return
            answer = await self._run(command)
        except DecodeError as error:
            self.log(f"initctl: {error.message}")
            answer = Answer(1, err=f"initctl: {error.message}\n")
        except Exception as error:
            # The client must hear of it, or it waits for ever.
            self.log(f"initctl: {error!r}")
            answer = Answer(1, err=f"initctl: {error!r}\n")
        if answer.more is not None:
            await self._feed(asker, answer)
            answer = Answer(answer.status)
        write_answer(self._place, asker, answer)
        self.init.forget(asker.token)
        self._answers += 1
        if self._answers % SWEEP_EVERY == 0:
            self._sweep()

    async def _feed(self, asker: Asker, answer: Answer) -> None:
        """Print for a client as long as it is there, a line or several at a time."""
        fd = open_answer(self._place, asker)
        if fd is None or answer.more is None:
            return
        pipe = AnswerPipe(fd)
        try:
            await pipe.feed(answer.out)
            feeding = asyncio.ensure_future(answer.more(pipe.feed))
            gone = asyncio.ensure_future(pipe.gone.wait())
            try:
                await asyncio.wait((feeding, gone), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (feeding, gone):
                    task.cancel()
                await asyncio.gather(feeding, gone, return_exceptions=True)
        finally:
            pipe.close()

    async def _run(self, command: Command) -> Answer:
        size = sum(map(len, command.arguments))
        if self._held_bytes + size > MAX_HELD_BYTES:
            raise DecodeError("initctl-full", f"requests of {MAX_HELD_BYTES} bytes wait already")
        self._held_bytes += size
        try:
            run = self.programs(command.program) or self.initctl.run
            return await run(command)
        finally:
            self._held_bytes -= size

    def _is_waiting(self, token: str) -> bool:
        """Whether the client with this token is still there."""
        for asker, _ in self._serving.values():
            if asker.token == token:
                return is_waiting(self._place, asker)
        return False


def _make_directory(path: str) -> None:
    """A directory, all above it too; those above may be entered by everybody."""
    above = os.path.dirname(path)
    if above and not os.path.isdir(above):
        os.makedirs(above, mode=0o755, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)


def _discard(place: int, name: str, *, only_directory: bool = False) -> None:
    """Take away whatever has a name; a directory that is not empty is moved aside."""
    try:
        is_directory = stat.S_ISDIR(os.stat(name, dir_fd=place, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return
    if is_directory:
        aside = f".{name}.{os.getpid()}.{os.urandom(4).hex()}"
        os.rename(name, aside, src_dir_fd=place, dst_dir_fd=place)
    elif not only_directory:
        os.unlink(name, dir_fd=place)
