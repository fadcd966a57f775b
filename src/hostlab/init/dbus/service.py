"""com.ubuntu.Upstart on a bus: the name, who may call what, and the signals.

Who changes something must be root or the init's own user; anybody may look. dbus-daemon asks the
same of its policy, and a system bus lets nobody own a name without one: in a root of its own an
init writes that policy, if there is none, beside those of the system's other services.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from hostlab.errors import Failed
from hostlab.init.dbus import objects
from hostlab.init.dbus.announcing import Announcer
from hostlab.init.dbus.calls import Calls
from hostlab.init.dbus.library import Message, MessageBus, MessageType
from hostlab.init.dbus.link import Link, call
from hostlab.init.dbus.private import PrivateServer
from hostlab.init.jobs import Jobs
from hostlab.init.watches import Watches

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
PRIMARY_OWNER: Final = (1, 4)
"""RequestName's answers that say so: now, and already."""


class UpstartService:
    """The init on one bus."""

    def __init__(
        self,
        name: str,
        address: Callable[[], str | None],
        calls: Calls,
        jobs: Jobs,
        *,
        warn: Callable[[str], None],
        watches: Watches | None,
        private: PrivateServer | None,
        owns_root: bool,
        has_restarted: bool,
    ) -> None:
        """`has_restarted`: an earlier supervisor may have answered there, and this one says so.

        `private` has the signals too, without a bus.
        """
        self.name = name
        self._calls = calls
        self._warn = warn
        self._private = private
        self._owns_root = owns_root
        self._has_restarted = has_restarted
        self._is_owner = False
        self._users: dict[str, int] = {}
        self._announcer = Announcer(lambda: jobs.engine.classes, self._announce)
        self._unsubscribe = jobs.subscribe(self._announcer.happened)
        self.described = self._announcer.described
        self._announcer.begin()
        self._link = Link(name, address, self, warn=warn, watches=watches, passes_fds=True)

    def look(self) -> None:
        """Its address may be another now."""
        self._link.look()

    def close(self) -> None:
        """Leave the bus."""
        self._unsubscribe()
        if self._private is not None:
            self._private.close()
        self._link.close()

    # What the link tells.

    async def established(self, bus: MessageBus) -> None:
        """Ask for the name, last: who sees it may call."""
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
        self._calls.serve(
            message, may_change=lambda: self._may_change(message), send=self._link.send
        )
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
        signature = "".join(kind for _, kind in objects.SIGNALS[interface][member])
        if self._is_owner:
            self._link.send(Message.new_signal(path, interface, member, signature, body))
        if self._private is not None:
            self._private.send(Message.new_signal(path, interface, member, signature, body))


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
