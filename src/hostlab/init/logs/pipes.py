"""Jobs' output: from the pipe that each process writes into, to its instance's file, by splice.

A process gets a pipe of its own. Nobody but the process, and what it leaves it to, has the write
end, so the end of the stream says that the last writer has gone. The holder keeps the read end
under `log:NUMBER:NAME` until then: when the supervisor dies, what is in the pipe stays there, a
writer waits at most until the next one goes on, and no one gets SIGPIPE.

What was written before a process starts is in the file before what that process writes. Two
processes of an instance that write at the same time are mixed in the order in which their pipes
come to be looked at; their lines stay whole as far as each writes whole lines.

One loop, no thread, no task: a readable pipe is drained up to a bound, then the others have their
turn. Why and how much is dropped: docs/decisions/logs.md.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from typing import Final

from hostlab.init.logs.file import LogFile, Stream
from hostlab.init.logs.policy import Dropped, LogPolicy, log_name
from hostlab.linux.splice import PIPE_BYTES, Peek, widen

SINCE_BYTES: Final = 8192
KEY: Final = "log"
WIDE_BYTES: Final = 1 << 18
"""Of a pipe that was found full: with 64 KiB a flood goes half as fast as through `cat`."""
MAX_WIDE: Final = 16
"""Pipes that are widened at the same time: a user has 64 MiB for all pipes (pipe(7))."""
DEFAULT_POLICY: Final = LogPolicy()


def _silent(_message: str) -> None:
    return


class Logs:
    """The logs of one init, in one directory; made while its loop runs.

    `keep` and `drop` have the holder keep a descriptor by name and close it. `drop` also closes
    what `restore` was given under that name, as Supervisor.drop does. `warn` is told, once a
    minute at most for each log, that lines are dropped. The clocks are in seconds.
    """

    def __init__(
        self,
        directory: int,
        *,
        keep: Callable[[str, int], None],
        drop: Callable[[str], None],
        policy: LogPolicy = DEFAULT_POLICY,
        warn: Callable[[str], None] = _silent,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._keep = keep
        self._drop = drop
        self._policy = policy
        self._warn = warn
        self._monotonic = monotonic
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self._peek = Peek()
        self._logs: dict[str, LogFile] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._number = 0
        self._wide = 0

    def restore(self, kept: Mapping[str, int]) -> None:
        """Go on with the pipes that the holder kept for a supervisor that died; others it ignores.

        The descriptors stay the giver's. What the pipes hold is in the files on return.
        """
        found = sorted(
            (int(number), name, key)
            for key in kept
            for kind, number, name in (_parts(key),)
            if kind == KEY and number.isdigit()
        )
        for number, name, key in found:
            self._number = max(self._number, number)
            self._add(Stream(key, kept[key], self._log(name), is_ours=False))

    def writer(self, job: str, instance: str = "") -> int:
        """A new write end for a process that is about to start; the caller closes it.

        Blocking, close-on-exec. OSError when there is no descriptor left for it.
        """
        log = self._log(log_name(job, instance))
        log.is_over = False
        for stream in tuple(log.streams):
            self._drain(stream)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        self._number += 1
        key = f"{KEY}:{self._number}:{log.name}"
        try:
            os.set_blocking(reader, False)
            self._keep(key, reader)
        except OSError:
            os.close(reader)
            os.close(writer)
            raise
        self._add(Stream(key, reader, log, is_ours=True))
        return writer

    def ended(self, job: str, instance: str = "") -> None:
        """The instance is gone; its log is forgotten once the last writer is gone too."""
        log = self._logs.get(log_name(job, instance))
        if log is None:
            return
        log.is_over = True
        for stream in tuple(log.streams):
            self._drain(stream)
        self._forget(log)

    def flush(self) -> None:
        """Put what the pipes hold now into the files."""
        for log in tuple(self._logs.values()):
            for stream in tuple(log.streams):
                self._drain(stream)

    def size_bytes(self, job: str, instance: str) -> int:
        """How long a job's log is now, with what its pipes hold."""
        self.flush()
        try:
            return os.stat(f"{log_name(job, instance)}.log", dir_fd=self._directory).st_size
        except FileNotFoundError:
            return 0

    def since(self, job: str, instance: str, start_bytes: int) -> tuple[str, ...]:
        """The lines that a job has written since its log was so long, some KiB of them at most; of
        a log that was rotated meanwhile, its new file's.
        """
        end = self.size_bytes(job, instance)
        start = start_bytes if end >= start_bytes else 0
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(f"{log_name(job, instance)}.log", flags, dir_fd=self._directory)
        except FileNotFoundError:
            return ()
        try:
            text = os.pread(fd, min(end - start, SINCE_BYTES), start)
        finally:
            os.close(fd)
        return tuple(text.decode(errors="replace").splitlines())

    def pipes(self) -> tuple[str, ...]:
        """The holder's names of the pipes that may still be written into."""
        return tuple(stream.key for log in self._logs.values() for stream in log.streams)

    def dropped(self) -> tuple[Dropped, ...]:
        """The logs that lack lines, and how many, since this supervisor started.

        Those of instances that are gone are left out: their files say it.
        """
        found = (log.dropped() for log in self._logs.values())
        return tuple(d for d in found if d.size_bytes)

    def close(self) -> None:
        """Flush, and leave the rest to the holder and the next supervisor."""
        self.flush()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for log in self._logs.values():
            log.settle(at_once=True)
            for stream in log.streams:
                self._loop.remove_reader(stream.pipe)
                if stream.is_ours:
                    os.close(stream.pipe)
        self._logs.clear()
        self._peek.close()

    def _log(self, name: str) -> LogFile:
        log = self._logs.get(name)
        if log is None:
            log = self._logs[name] = LogFile(
                self._directory,
                name,
                self._policy,
                self._peek,
                warn=self._warn,
                monotonic=self._monotonic,
                wall=self._wall,
            )
        return log

    def _add(self, stream: Stream) -> None:
        stream.log.streams.append(stream)
        self._loop.add_reader(stream.pipe, self._drain, stream)
        if not stream.is_ours:
            self._drain(stream)

    def _drain(self, stream: Stream) -> None:
        """A turn of one pipe."""
        log = stream.log
        taken = log.drain(stream)
        if log.is_unsettled and log.name not in self._timers:
            self._settle_later(log)
        if taken is None:
            self._remove(stream)
        elif taken >= PIPE_BYTES and not stream.is_wide and self._wide < MAX_WIDE:
            stream.is_wide = widen(stream.pipe, WIDE_BYTES)
            self._wide += stream.is_wide

    def _remove(self, stream: Stream) -> None:
        self._loop.remove_reader(stream.pipe)
        self._wide -= stream.is_wide
        stream.log.streams.remove(stream)
        self._drop(stream.key)
        if stream.is_ours:
            os.close(stream.pipe)
        if not stream.log.streams:
            stream.log.settle(at_once=True)
        self._forget(stream.log)

    def _forget(self, log: LogFile) -> None:
        if log.is_over and not log.streams and log.name not in self._timers:
            self._logs.pop(log.name, None)

    def _settle_later(self, log: LogFile) -> None:
        self._timers[log.name] = self._loop.call_later(log.wait_s, self._settle, log)

    def _settle(self, log: LogFile) -> None:
        del self._timers[log.name]
        if log.settle() or (log.is_over and not log.streams):
            self._give_up(log)
        else:
            self._settle_later(log)

    def _give_up(self, log: LogFile) -> None:
        """Nothing is left to be said in the file, or nobody is left to wait for it."""
        if log.is_unsettled:
            lost = log.dropped()
            self._warn(
                f"log {log.name}: {lost.lines} lines ({lost.size_bytes} bytes) dropped, "
                "which the log itself does not say"
            )
        self._forget(log)


def _parts(key: str) -> tuple[str, str, str]:
    kind, _, rest = key.partition(":")
    number, _, name = rest.partition(":")
    return kind, number, name
