"""What a program says of itself in a datagram to $NOTIFY_SOCKET: sd_notify(3), parsed.

A datagram is lines of `KEY=VALUE`. As in systemd the first assignment of a key counts, a key that
nobody knows is passed over, and a value that cannot be is passed over too, but named in `problems`.
Nothing that a program sends is an error of the one who listens: there is no exception here.
"""

from __future__ import annotations

from typing import Final

import msgspec

MAX_DATAGRAM_BYTES: Final = 4096
"""As systemd's NOTIFY_BUFFER_MAX (PIPE_BUF); a longer one is not taken."""
MAX_STATUS_CHARACTERS: Final = 1024
"""A longer `STATUS` is cut."""
MAX_NAME_BYTES: Final = 255
"""Of a stored descriptor's name (FDNAME_MAX)."""
DEFAULT_NAME: Final = "stored"
"""A stored descriptor's name when it was given none, or one that cannot be."""
MAX_PID: Final = 1 << 22
"""PID_MAX_LIMIT of Linux."""
MAX_EXTENSION_S: Final = 10 * 365 * 86400.0
"""Above this a time is taken for it: sums of times stay finite and comparable."""
_USEC_DIGITS: Final = 20
_ERRNO_MAX: Final = 4095


class Message(msgspec.Struct, frozen=True):
    """One datagram's meaning. None and False: it does not say."""

    ready: bool = False
    reloading: bool = False
    stopping: bool = False
    status: str | None = None
    main_pid: int | None = None
    errno: int | None = None
    bus_error: str | None = None
    exit_status: int | None = None
    monotonic_usec: int | None = None
    """When it began to reload, by CLOCK_MONOTONIC."""
    extend_timeout_s: float | None = None
    watchdog: bool = False
    """It is alive."""
    watchdog_failed: bool = False
    """`WATCHDOG=trigger`: treat it as if it had missed its time."""
    watchdog_s: float | None = None
    """Its watchdog's new time; 0 switches it off."""
    store: bool = False
    store_remove: bool = False
    name: str = DEFAULT_NAME
    """Of the descriptors to store or to remove."""
    poll: bool = True
    """Forget a stored descriptor when its other end has hung up."""
    barrier: bool = False
    """The one descriptor beside it is to be closed once all before it has been dealt with."""
    problems: tuple[str, ...] = ()


def parse(data: bytes) -> Message:
    """The meaning of one datagram."""
    text = data.removesuffix(b"\0")
    if len(data) > MAX_DATAGRAM_BYTES:
        return Message(problems=(f"a message of more than {MAX_DATAGRAM_BYTES} bytes",))
    if b"\0" in text:
        return Message(problems=("a message with a NUL byte in it",))
    said: dict[str, str] = {}
    problems: list[str] = []
    for line in text.split(b"\n"):
        key, equals, value = line.partition(b"=")
        if not equals:
            if line:
                problems.append(f"no assignment: {_shown(line)}")
            continue
        try:
            said.setdefault(key.decode("ascii"), value.decode())
        except UnicodeDecodeError:
            problems.append(f"not UTF-8: {_shown(line)}")
    return _message(said, problems)


def _message(said: dict[str, str], problems: list[str]) -> Message:
    def number(key: str, highest: int, lowest: int = 0) -> int | None:
        text = said.get(key)
        if text is None:
            return None
        if text.isascii() and text.isdigit() and len(text) <= _USEC_DIGITS:
            value = int(text)
            if lowest <= value <= highest:
                return value
        problems.append(f"{key}={text[:40]!r} is no number from {lowest} to {highest}")
        return None

    def seconds(key: str, lowest: int) -> float | None:
        usec = number(key, (1 << 64) - 1, lowest)
        return None if usec is None else min(usec / 1e6, MAX_EXTENSION_S)

    status = said.get("STATUS")
    name = said.get("FDNAME", DEFAULT_NAME)
    if not _is_name(name):
        problems.append(f"FDNAME={name[:40]!r} is no name for a descriptor")
        name = DEFAULT_NAME
    return Message(
        ready=said.get("READY") == "1",
        reloading=said.get("RELOADING") == "1",
        stopping=said.get("STOPPING") == "1",
        status=None if status is None else status[:MAX_STATUS_CHARACTERS],
        main_pid=number("MAINPID", MAX_PID, lowest=2),
        errno=number("ERRNO", _ERRNO_MAX),
        bus_error=said.get("BUSERROR"),
        exit_status=number("EXIT_STATUS", 255),
        monotonic_usec=number("MONOTONIC_USEC", (1 << 64) - 1),
        extend_timeout_s=seconds("EXTEND_TIMEOUT_USEC", 1),
        watchdog=said.get("WATCHDOG") == "1",
        watchdog_failed=said.get("WATCHDOG") == "trigger",
        watchdog_s=seconds("WATCHDOG_USEC", 0),
        store=said.get("FDSTORE") == "1",
        store_remove=said.get("FDSTOREREMOVE") == "1",
        name=name,
        poll=said.get("FDPOLL") != "0",
        barrier=said.get("BARRIER") == "1",
        problems=tuple(problems),
    )


def _is_name(name: str) -> bool:
    """As systemd's fdname_is_valid(): no colon, which separates them in $LISTEN_FDNAMES."""
    printable = all(" " <= character < "\x7f" and character != ":" for character in name)
    return printable and len(name) <= MAX_NAME_BYTES


def _shown(line: bytes) -> str:
    return repr(line[:40])[1:]
