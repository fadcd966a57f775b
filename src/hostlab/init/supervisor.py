"""The supervisor: decides what an init does, and may die at any instant without losing anything.

What must survive it is the holder's: the processes, their exit statuses, descriptors. A new
supervisor first hears what is there (`Holder`, "to the supervisor"), then serves commands. A
command is a JSON object with `op`; its answer carries the same `id`. Several answers may come:
all but the last have `"more": true`.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

from hostlab.errors import DecodeError, Failed, Problem, UsageError
from hostlab.init.connection import Connection
from hostlab.init.holder import DATAGRAM_BYTES, Inheritance
from hostlab.init.process import prepare_to_spawn
from hostlab.init.protocol import HUNG_UP, Message, peer_uid, receive_bytes

Handler = Callable[["Request"], Awaitable[Any]]
ACCEPTS_AT_ONCE: Final = 64
ACCEPT_PAUSE_S: Final = 0.5
"""Without a descriptor for a client; of when there is one again the kernel tells nobody."""
MAX_REFUSED: Final = 100
"""Users whose refusal is told, once of each."""


class Request:
    """One command of one client."""

    def __init__(self, connection: Connection, message: Message) -> None:
        self.connection = connection
        self.message = message

    def take(self, count: int) -> list[int]:
        """Descriptors that came with the command."""
        return self.connection.take(count)

    def reply(
        self, message: dict[str, Any], *, more: bool = False, fds: tuple[int, ...] = ()
    ) -> None:
        """Answer; `more` when it is not the last answer."""
        answer = {"id": self.message.get("id"), **message}
        if more:
            answer["more"] = True
        self.connection.send(answer, fds)


class Supervisor:
    """The shell round a node's decisions: the channel to the holder, and the control socket."""

    def __init__(self, inheritance: Inheritance) -> None:
        prepare_to_spawn()
        self.control = inheritance.control
        self.channel = inheritance.channel
        self.handlers: dict[str, Handler] = {"ping": self.ping}
        self.kept: dict[str, int] = {}
        self._unheard: deque[tuple[bytes, list[int]]] = deque()
        """Told by the holder while it was being told something."""
        self._waiting: dict[int, asyncio.Future[int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[Connection] = set()
        self._restored = asyncio.Event()
        self._refused: set[int] = set()

    async def run(self) -> None:
        """Serve until the holder goes away."""
        loop = asyncio.get_running_loop()
        self.channel.settimeout(0)
        self.control.settimeout(0)
        gone = loop.create_future()
        loop.add_reader(self.channel, self._from_holder, gone)
        await self._restored.wait()
        await self.started()
        self._listen()
        await gone

    async def started(self) -> None:
        """Called once everything from before is known and before commands are served."""

    def found_running(self, key: str, pid: int) -> None:
        """A process of an earlier supervisor still runs."""

    def found_ended(self, key: str, pid: int, status: int) -> None:
        """A process that nobody here waits for has ended; `status` is a wait status."""

    def found_stopped(self, key: str, pid: int) -> None:
        """A signal has stopped a process; told again by the holder as long as it is stopped."""

    def signalled(self, number: int) -> None:
        """Somebody sent the holder a signal that it passes on."""

    def is_settled(self, key: str) -> bool:
        """Whether a status of this key need not be told to a later supervisor as well."""
        return True

    def acknowledge(self, key: str, pid: int) -> None:
        """Let the holder forget a status."""
        self.post(f"= {pid} {key}")

    def adopt(self, pid: int, key: str) -> None:
        """Have the holder take an orphan for a process of this key (`*` in `holder`).

        One that has ended already is told to `found_ended`, if need be as `holder.GONE`.
        """
        self.post(f"* {pid} {key}")

    def refused(self, uid: int) -> None:
        """A client of another user was sent away; told once of each user."""
        sys.stderr.write(f"refused: a client of user {uid}\n")

    def disconnected(self, connection: Connection) -> None:
        """A client has hung up."""

    async def ping(self, request: Request) -> dict[str, Any]:
        """Answer at once: the supervisor's pid."""
        return {"pid": os.getpid()}

    def ended(self, pid: int) -> asyncio.Future[int]:
        """A future of the wait status of a process that was started with this channel.

        Asked for right after `spawn`, before the loop can read the channel, so never too late.
        """
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[pid] = future
        return future

    def keep(self, name: str, fd: int) -> None:
        """Have the holder keep a descriptor for the next supervisor."""
        self.post(f"< {name}", fd)

    def drop(self, name: str) -> None:
        """Have the holder close a kept descriptor."""
        self.post(f"> {name}")
        fd = self.kept.pop(name, None)
        if fd is not None:
            os.close(fd)

    def post(self, text: str, *fds: int) -> None:
        """Tell the holder; waits while it has not taken what was told before."""
        while True:
            try:
                socket.send_fds(self.channel, [text.encode()], fds)
                return
            except BlockingIOError:
                self._make_room()

    def wait_for_room(self) -> None:
        """Wait until the holder takes more; before a process is started that speaks to it first.

        Such a process waits for the holder and we wait for the process: a holder that waits
        for us meanwhile, with more ends to tell than the channel holds, would wait for ever.
        """
        while not self._make_room() & select.POLLOUT:
            pass

    def _make_room(self) -> int:
        """Wait until the holder takes more; it may itself be waiting to tell us something."""
        poll = select.poll()
        poll.register(self.channel, select.POLLIN | select.POLLOUT)
        ((_, events),) = poll.poll()
        if events & select.POLLIN:
            self._unheard.append(receive_bytes(self.channel, size=DATAGRAM_BYTES))
            if len(self._unheard) == 1:
                asyncio.get_running_loop().call_soon(self._hear_later)
        return events

    def _hear_later(self) -> None:
        while self._unheard:
            data, fds = self._unheard.popleft()
            self._told(data.decode(), fds)

    def spawn_task(self, work: Awaitable[None]) -> None:
        """Run work that this supervisor owns; an exception in it is a defect and ends it loudly."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a task of the supervisor failed", "exception": error, "task": task}
            )

    def _from_holder(self, gone: asyncio.Future[None]) -> None:
        self._hear_later()
        while True:
            try:
                data, fds = receive_bytes(self.channel, size=DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except ConnectionError:
                data, fds = b"", []
            if not data:
                asyncio.get_running_loop().remove_reader(self.channel)
                gone.set_result(None)
                return
            self._told(data.decode(), fds)

    def _told(self, text: str, fds: list[int]) -> None:
        verb, _, rest = text.partition(" ")
        if verb == "+":
            key, pid = rest.rsplit(" ", 1)
            self.found_running(key, int(pid))
        elif verb == "-":
            key, pid, status = rest.rsplit(" ", 2)
            self._status(key, int(pid), int(status))
        elif verb == "~":
            key, pid = rest.rsplit(" ", 1)
            self.found_stopped(key, int(pid))
        elif verb == "!":
            self.signalled(int(rest))
        elif verb == "<" and fds:
            self.kept[rest] = fds[0]
        elif verb == ".":
            self._restored.set()

    def _status(self, key: str, pid: int, status: int) -> None:
        future = self._waiting.pop(pid, None)
        if future is None:
            self.found_ended(key, pid, status)
        elif not future.done():
            future.set_result(status)
        # Last: a supervisor that is killed before it has done anything with it is told again.
        if self.is_settled(key):
            self.acknowledge(key, pid)

    def _listen(self) -> None:
        asyncio.get_running_loop().add_reader(self.control, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                sock, _ = self.control.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError:
                # Who waits there goes on waiting, and would wake us without end (accept(2)).
                loop = asyncio.get_running_loop()
                loop.remove_reader(self.control)
                loop.call_later(ACCEPT_PAUSE_S, self._listen)
                return
            uid = peer_uid(sock)
            if uid != os.getuid():
                if uid not in self._refused and len(self._refused) < MAX_REFUSED:
                    self._refused.add(uid)
                    self.refused(uid)
                sock.close()
                continue
            self._connections.add(Connection(sock, received=self._received, closed=self._hung_up))

    def _hung_up(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self.disconnected(connection)

    def _received(self, connection: Connection, message: Message) -> None:
        self.spawn_task(self._serve(Request(connection, message)))

    async def _serve(self, request: Request) -> None:
        op = request.message.get("op")
        handler = self.handlers.get(op) if isinstance(op, str) else None
        try:
            if handler is None:
                raise UsageError("unknown-op", f"no such operation: {op!r}")
            request.reply({"ok": await handler(request)})
        except Problem as problem:
            request.reply({"error": describe(problem)})
        except (KeyError, TypeError, ValueError) as error:
            request.reply({"error": describe(DecodeError("bad-request", f"{op}: {error!r}"))})
        except ConnectionError as error:
            request.reply({"error": describe(died(f"{op}: {error.strerror or error}"))})
        except OSError as error:
            request.reply({"error": describe_oserror(error)})
        except Exception as error:
            # The client must hear of it, or it waits for ever; the log gets the whole of it.
            request.reply({"error": describe(Problem("defect", f"{op}: {error!r}"))})
            raise


def died(what: str) -> Failed:
    """One of the lab's own processes ended while something was asked of it."""
    hint = "repeat the command: what has ended is made again"
    return Failed(HUNG_UP, f"a process of the lab ended meanwhile: {what}", hint=hint)


def describe(problem: Problem) -> dict[str, Any]:
    """A Problem as the protocol carries it."""
    return {
        "kind": type(problem).__name__,
        "code": problem.code,
        "message": problem.message,
        "hint": problem.hint,
        "exit": problem.exit_code,
    }


def describe_oserror(error: OSError) -> dict[str, Any]:
    """A kernel's refusal as the protocol carries it."""
    what = f" ({error.filename})" if error.filename else ""
    text = f"{error.strerror or error}{what}"
    return {"kind": "OSError", "code": "os", "message": text, "hint": None, "exit": 4}
