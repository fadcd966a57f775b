"""com.ubuntu.Upstart on a bus: the name, who may call what, and the signals.

Who changes something must be root or the init's own user; anybody may look. dbus-daemon asks the
same of its policy, and a system bus lets nobody own a name without one: in a root of its own an
init writes that policy, if there is none, beside those of the system's other services.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import Any, Final

from hostlab.errors import Failed
from hostlab.init.dbus import objects
from hostlab.init.dbus.announcing import Announcer
from hostlab.init.dbus.library import Message, MessageBus, MessageType, Variant
from hostlab.init.dbus.link import GONE, Link, call
from hostlab.init.dbus.objects import Member
from hostlab.init.dbus.upstart import INVALID, Refused, Upstart
from hostlab.init.jobs import Jobs

MAX_CALLS: Final = 1000
"""Served at once; who calls beyond is told."""
MAX_KNOWN: Final = 1024
"""Callers whose user is remembered."""
POLICY_DIRECTORY: Final = "/etc/dbus-1/system.d"
POLICY: Final = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<!-- Written by hostlab's init: root owns the name and may do everything; others may look. -->
<busconfig>
  <policy user="root">
    <allow own="com.ubuntu.Upstart"/>
    <allow send_destination="com.ubuntu.Upstart"/>
  </policy>
  <policy context="default">
{open}  </policy>
</busconfig>
"""
DENIED: Final = "org.freedesktop.DBus.Error.AccessDenied"
LIMITS: Final = "org.freedesktop.DBus.Error.LimitsExceeded"
NO_REPLY_EXPECTED: Final = 1
PRIMARY_OWNER: Final = (1, 4)
"""RequestName's answers that say so: now, and already."""


class UpstartService:
    """The init on one bus."""

    def __init__(
        self,
        name: str,
        address: Callable[[], str | None],
        upstart: Upstart,
        jobs: Jobs,
        *,
        warn: Callable[[str], None],
        spawn_task: Callable[[Awaitable[None]], None],
        owns_root: bool,
        has_restarted: bool,
    ) -> None:
        """`has_restarted`: an earlier supervisor may have answered there, and this one says so."""
        self.name = name
        self._upstart = upstart
        self._warn = warn
        self._spawn_task = spawn_task
        self._owns_root = owns_root
        self._has_restarted = has_restarted
        self._is_owner = False
        self._calls = 0
        self._users: dict[str, int] = {}
        self._announcer = Announcer(lambda: jobs.engine.classes, self._announce)
        self._unsubscribe = jobs.subscribe(self._announcer.happened)
        self.described = self._announcer.described
        self._link = Link(name, address, self, warn=warn, passes_fds=True)

    def look(self) -> None:
        """Its address may be another now."""
        self._link.look()

    def close(self) -> None:
        """Leave the bus."""
        self._unsubscribe()
        self._link.close()

    # What the link tells.

    async def established(self, bus: MessageBus) -> None:
        """Ask for the name, last: who sees it may call."""
        self._announcer.begin()
        self._is_owner = await self._request_name(bus)
        if self._is_owner and self._has_restarted:
            self._announce(objects.ROOT, objects.MANAGER, "Restarted", [])
        self._has_restarted = False

    def lost(self) -> None:
        """Callers are another bus's from now on."""
        self._is_owner = False
        self._users.clear()

    def received(self, message: Message) -> Message | bool | None:
        """Serve a call; hear that the name has come or gone."""
        if message.message_type is MessageType.SIGNAL:
            if message.member in ("NameAcquired", "NameLost") and message.body == [objects.NAME]:
                self._is_owner = message.member == "NameAcquired"
            return None
        if message.message_type is not MessageType.METHOD_CALL:
            return None
        if self._calls >= MAX_CALLS:
            close_fds(message)
            return Message.new_error(message, LIMITS, f"More than {MAX_CALLS} calls at once")
        self._calls += 1
        self._spawn_task(self._serve(message))
        return True

    async def _request_name(self, bus: MessageBus) -> bool:
        for is_last in (False, True):
            try:
                (answer,) = await call(bus, "RequestName", "su", [objects.NAME, 0])
            except Failed as error:
                if not is_last and error.code == DENIED and await self._allow(bus):
                    continue
                self._warn(f"{self.name}: not as {objects.NAME}: {error.message}")
                return False
            if answer not in PRIMARY_OWNER:
                self._warn(f"{self.name}: another has the name {objects.NAME}; it is waited for")
            return answer in PRIMARY_OWNER
        return False

    async def _allow(self, bus: MessageBus) -> bool:
        """Write the policy where there is none; whether there is a new one now."""
        if not self._owns_root:
            return False
        try:
            if not write_policy(POLICY_DIRECTORY):
                return False
            await call(bus, "ReloadConfig")
        except (OSError, Failed) as error:
            self._warn(f"{self.name}: no policy for {objects.NAME}: {error}")
            return False
        return True

    # Calls.

    async def _serve(self, message: Message) -> None:
        try:
            answer = await self._answer(message)
        except Refused as refused:
            answer = Message.new_error(message, refused.code, refused.message)
        except GONE:
            # The caller went, or the bus did: nobody is there to be told.
            return
        finally:
            self._calls -= 1
            close_fds(message)
        if not message.flags.value & NO_REPLY_EXPECTED:
            self._link.send(answer)

    async def _answer(self, message: Message) -> Message:
        path, member = str(message.path), str(message.member)
        interface, method = self._upstart.find(path, message.interface, member)
        if message.signature != method.signature:
            text = f"{member} takes `{method.signature}`, not `{message.signature}`"
            raise Refused(INVALID, text)
        if not (method.is_open or await self._may_change(message)):
            text = f"You do not have permission for {member}"
            raise Refused(f"{objects.MANAGER}.Error.PermissionDenied", text)
        body = given(method, message)
        result = await self._upstart.call(path, interface, member, body)
        return Message.new_method_return(message, method.answer, wrapped(method, result))

    async def _may_change(self, message: Message) -> bool:
        user = await self._user_of(str(message.sender))
        return user is not None and user in (0, os.getuid())

    async def _user_of(self, sender: str) -> int | None:
        bus = self._link.connection
        if sender not in self._users and bus is not None:
            if len(self._users) >= MAX_KNOWN:
                self._users.clear()
            try:
                (self._users[sender],) = await call(bus, "GetConnectionUnixUser", "s", [sender])
            except Failed:
                return None
        return self._users.get(sender)

    def _announce(self, path: str, interface: str, member: str, body: list[Any]) -> None:
        if self._is_owner:
            signature = "".join(kind for _, kind in objects.SIGNALS[interface][member])
            self._link.send(Message.new_signal(path, interface, member, signature, body))


def write_policy(directory: str) -> bool:
    """Write the policy; False when there is one already."""
    path = f"{directory}/{objects.NAME}.conf"
    if os.path.lexists(path):
        return False
    os.makedirs(directory, exist_ok=True)
    with open(f"{path}.new", "w") as file:
        file.write(policy())
    os.rename(f"{path}.new", path)
    return True


def policy() -> str:
    """For a system bus: the methods that anybody may call, and everything for root."""
    lines = []
    for interface, methods in objects.METHODS.items():
        for member, method in methods.items():
            if method.is_open:
                lines.append(
                    f'    <allow send_destination="{objects.NAME}"\n'
                    f'           send_interface="{interface}" send_member="{member}"/>\n'
                )
    return POLICY.format(open="".join(lines))


def given(method: Member, message: Message) -> list[Any]:
    """A call's arguments as values."""
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
