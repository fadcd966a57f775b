"""What is used of dbus-fast, or, where it is missing, what to do about it."""

from __future__ import annotations

from hostlab.errors import Unsupported, extra

try:
    from dbus_fast import Message as Message
    from dbus_fast import MessageType as MessageType
    from dbus_fast import SignatureTree as SignatureTree
    from dbus_fast import Variant as Variant
    from dbus_fast.aio import MessageBus as MessageBus
    from dbus_fast.aio.message_reader import build_message_reader as build_message_reader
    from dbus_fast.errors import AuthError as AuthError
    from dbus_fast.errors import InvalidAddressError as InvalidAddressError
    from dbus_fast.introspection import Interface as Interface
    from dbus_fast.introspection import Node as Node

except ImportError as missing:
    raise Unsupported("dbus", "the library dbus-fast is missing", hint=extra("dbus")) from missing
