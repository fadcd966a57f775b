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

import msgspec

from hostlab.errors import DecodeError, Failed, Problem, UsageError
from hostlab.init.connection import Connection
from hostlab.init.holder import DATAGRAM_BYTES, SIGNALLED, Inheritance
from hostlab.init.protocol import HUNG_UP, MAX_LINE_BYTES, Message, peer_uid
from hostlab.init.spawning.process import prepare_to_spawn
from hostlab.linux.scm_rights import receive

Handler = Callable[["Request"], Awaitable[Any]]
ACCEPTS_AT_ONCE: Final = 64
MAX_CONNECTIONS: Final = 1024
"""Clients at once; a further one is told so and cut off."""
MAX_REQUESTS: Final = 1000
"""Commands that one client has waiting; one that sends more is told so and cut off."""
ACCEPT_PAUSE_S: Final = 0.5
"""Without a descriptor for a client; of when there is one again the kernel tells nobody."""
MAX_REFUSED: Final = 100
"""Users whose refusal is told, once of each."""


class CarriedRequest(msgspec.Struct, frozen=True):
    """A command that is being served while the supervisor becomes another program."""

    message: Message
    carried: dict[str, Any]


class CarriedConnection(msgspec.Struct, frozen=True):
    """A client that does not notice that the supervisor becomes another program."""

    fd: int
    unfinished: bytes
    unsent: bytes
    requests: tuple[CarriedRequest, ...]

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that were started for it."""
        return tuple(each.carried["pid"] for each in self.requests if "pid" in each.carried)


class Request:
    """One command of one client."""

    def __init__(
        self, connection: Connection, message: Message, carried: dict[str, Any] | None = None
    ) -> None:
        self.connection = connection
        self.message = message
        self.carried: dict[str, Any] = {} if carried is None else carried
        """What whoever serves it must know to go on with it in another program (`reexec`)."""
        self.served = asyncio.Event()
        """Set when it has its last answer."""

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

    max_line_bytes = MAX_LINE_BYTES
    """Of one command."""

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
        self._connections: dict[Connection, list[Request]] = {}
        """The clients, and what is being served of each."""
        self._expected: dict[int, asyncio.Future[int]] = {}
        self._carried: tuple[CarriedConnection, ...] = ()
        self._restored = asyncio.Event()
        self._hung_up_on: asyncio.Future[None] | None = None
        self._refused: set[int] = set()

    async def run(self) -> None:
        """Serve until the holder goes away."""
        loop = asyncio.get_running_loop()
        self.channel.settimeout(0)
        self.control.settimeout(0)
        gone: asyncio.Future[None] = loop.create_future()
        self._hung_up_on = gone
        self.hear_holder()
        await self._restored.wait()
        await self.started()
        self._take_up_clients()
        self._listen()
        await gone

    def hear_holder(self) -> None:
        """Listen to what the holder tells."""
        asyncio.get_running_loop().add_reader(self.channel, self._from_holder)

    def leave_holder(self) -> None:
        """Listen to it no longer: what it tells from now on is for another program."""
        self._hear_later()
        asyncio.get_running_loop().remove_reader(self.channel)

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
        if pid in self._expected:
            return self._expected.pop(pid)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[pid] = future
        return future

    def request_of(self, pid: int) -> Request | None:
        """The client's command that this process was started for, while it is being served."""
        each = (request for requests in self._connections.values() for request in requests)
        return next((request for request in each if request.carried.get("pid") == pid), None)

    def carry(self) -> tuple[CarriedConnection, ...]:
        """The clients, for another program."""
        found = []
        for connection, requests in self._connections.items():
            rest = connection.rest()
            if rest is not None:
                each = tuple(CarriedRequest(r.message, r.carried) for r in requests)
                found.append(CarriedConnection(connection.socket.fileno(), *rest, each))
        return tuple(found)

    def expect(self, clients: tuple[CarriedConnection, ...]) -> None:
        """Have these clients of the program before this one, once all is known from before.

        Asked for before the channel is read: what has ended of theirs is told only once.
        """
        self._carried = clients
        for client in clients:
            for pid in client.pids:
                self._expected[pid] = self.ended(pid)

    @property
    def carried_tokens(self) -> frozenset[str]:
        """The requests of clients that have come over from another program (`resume`)."""
        each = (request for client in self._carried for request in client.requests)
        return frozenset(str(one.carried["token"]) for one in each if "token" in one.carried)

    def _take_up_clients(self) -> None:
        for client in self._carried:
            connection = self._connect(socket.socket(fileno=client.fd))
            for each in client.requests:
                self._begin(Request(connection, each.message, each.carried))
            connection.go_on(client.unfinished, client.unsent)
        self._carried = ()

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
            self._unheard.append(receive(self.channel, DATAGRAM_BYTES))
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

    def _from_holder(self) -> None:
        self._hear_later()
        while True:
            try:
                data, fds = receive(self.channel, DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except ConnectionError:
                data, fds = b"", []
            if not data:
                asyncio.get_running_loop().remove_reader(self.channel)
                assert self._hung_up_on is not None
                self._hung_up_on.set_result(None)
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
            # Last, as with a status.
            self.acknowledge(SIGNALLED, int(rest))
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
            connection = self._connect(sock)
            if len(self._connections) > MAX_CONNECTIONS:
                self._cut_off(connection, f"more than {MAX_CONNECTIONS} clients at once")

    def _connect(self, sock: socket.socket) -> Connection:
        connection = Connection(
            sock,
            received=self._received,
            closed=self._hung_up,
            max_line_bytes=self.max_line_bytes,
        )
        self._connections[connection] = []
        return connection

    def _hung_up(self, connection: Connection) -> None:
        self._connections.pop(connection, None)
        self.disconnected(connection)

    def _received(self, connection: Connection, message: Message) -> None:
        self._begin(Request(connection, message))

    def _begin(self, request: Request) -> None:
        requests = self._connections.get(request.connection)
        if requests is None:
            return
        if len(requests) >= MAX_REQUESTS:
            self._cut_off(request.connection, f"more than {MAX_REQUESTS} commands wait")
            return
        requests.append(request)
        self.spawn_task(self._serve(request))

    def _cut_off(self, connection: Connection, why: str) -> None:
        connection.send({"error": describe(UsageError("too-many", why))})
        connection.close()

    async def _serve(self, request: Request) -> None:
        try:
            await self._answer(request)
        finally:
            request.served.set()
            requests = self._connections.get(request.connection, [])
            if request in requests:
                requests.remove(request)

    async def _answer(self, request: Request) -> None:
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
