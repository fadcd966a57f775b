"""Calls of com.ubuntu.Upstart as messages, from whoever sends them: a bus, or a private client."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import Any, Final

from hostlab.init.dbus.library import Message, Variant
from hostlab.init.dbus.link import GONE
from hostlab.init.dbus.objects import MANAGER, Member
from hostlab.init.dbus.upstart import INVALID, Refused, Upstart

MAX_CALLS: Final = 1000
"""Served at once; who calls beyond is told."""
LIMITS: Final = "org.freedesktop.DBus.Error.LimitsExceeded"
NO_REPLY_EXPECTED: Final = 1


class Calls:
    """Serves calls, each in a task of its own."""

    def __init__(self, upstart: Upstart, spawn_task: Callable[[Awaitable[None]], None]) -> None:
        self._upstart = upstart
        self._spawn_task = spawn_task
        self._count = 0

    def serve(
        self,
        message: Message,
        *,
        may_change: Callable[[], Awaitable[bool]],
        send: Callable[[Message], None],
    ) -> None:
        """Have a call done, and its answer sent; its descriptors are closed.

        `may_change` is asked whether the caller may do more than look.
        """
        if self._count >= MAX_CALLS:
            close_fds(message)
            send(Message.new_error(message, LIMITS, f"More than {MAX_CALLS} calls at once"))
            return
        self._count += 1
        self._spawn_task(self._serve(message, may_change, send))

    async def _serve(
        self,
        message: Message,
        may_change: Callable[[], Awaitable[bool]],
        send: Callable[[Message], None],
    ) -> None:
        try:
            answer = await self._answer(message, may_change)
        except Refused as refused:
            answer = Message.new_error(message, refused.code, refused.message)
        except GONE:
            # The caller went, or the bus did: nobody is there to be told.
            return
        finally:
            self._count -= 1
            close_fds(message)
        if not message.flags.value & NO_REPLY_EXPECTED:
            send(answer)

    async def _answer(self, message: Message, may_change: Callable[[], Awaitable[bool]]) -> Message:
        path, member = str(message.path), str(message.member)
        interface, method = self._upstart.find(path, message.interface, member)
        if message.signature != method.signature:
            text = f"{member} takes `{method.signature}`, not `{message.signature}`"
            raise Refused(INVALID, text)
        if not (method.is_open or await may_change()):
            text = f"You do not have permission for {member}"
            raise Refused(f"{MANAGER}.Error.PermissionDenied", text)
        result = await self._upstart.call(path, interface, member, given(method, message))
        return Message.new_method_return(message, method.answer, wrapped(method, result))


def given(method: Member, message: Message) -> list[Any]:
    """A call's arguments as values; a variant is (type, value), a descriptor its number here."""
    values: list[Any] = []
    for (_, kind), value in zip(method.takes, message.body, strict=True):
        if kind == "h":
            if not 0 <= value < len(message.unix_fds):
                raise Refused(INVALID, "the call came without its descriptor")
            values.append(message.unix_fds[value])
        elif kind == "v":
            values.append((value.signature, value.value))
        else:
            values.append(value)
    return values


def wrapped(method: Member, values: list[Any]) -> list[Any]:
    """What a method gives, as the library has it: a variant is a (type, value) before."""
    out: list[Any] = []
    for (_, kind), value in zip(method.gives, values, strict=True):
        if kind == "v":
            out.append(_variant(*value))
        elif kind == "a{sv}":
            out.append({key: _variant(*each) for key, each in value.items()})
        else:
            out.append(value)
    return out


def _variant(kind: str, value: Any) -> Variant:
    if kind == "a(si)":
        value = [list(each) for each in value]
    return Variant(kind, value)


def close_fds(message: Message) -> None:
    """Close the descriptors that came with a message."""
    for fd in message.unix_fds:
        with contextlib.suppress(OSError):
            os.close(fd)
    message.unix_fds = []
