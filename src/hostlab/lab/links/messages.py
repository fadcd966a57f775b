"""What the wire is told and what it answers: one packet of JSON each on a SOCK_SEQPACKET pair."""

from __future__ import annotations

import socket
from typing import Final

import msgspec

from hostlab import typed
from hostlab.errors import Failed
from hostlab.spec.impairments import Impairment

MAX_PACKET_BYTES: Final = 1 << 16
ANSWER_TIMEOUT_S: Final = 60.0
"""An answer takes a millisecond; this is for a machine that is swapping."""


class Put(msgspec.Struct, frozen=True, kw_only=True, tag="put"):
    """Carry a cable, or change how one is carried that is carried already."""

    name: str
    """`NODE:INTERFACE`."""
    port: int
    """The end that the node sends into: a link's index in the switch namespace."""
    inner: int
    """The end that leads to the segment."""
    mtu: int
    sending: Impairment
    receiving: Impairment


class Drop(msgspec.Struct, frozen=True, kw_only=True, tag="drop"):
    """Carry a cable no more; what is under way is lost."""

    name: str


class Stat(msgspec.Struct, frozen=True, kw_only=True, tag="stat"):
    """Tell what has passed a cable."""

    name: str


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Frames of one direction since the wire has carried the cable."""

    carried: int = 0
    lost: int = 0
    full: int = 0
    """Dropped for want of room in the queue."""
    duplicated: int = 0
    reordered: int = 0
    corrupted: int = 0
    held: int = 0
    """Under way now."""
    late: int = 0
    """Carried more than half a millisecond after their time."""
    missed: int = 0
    """Not seen, or not sent: the machine had no room for them."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a command."""

    error: str | None = None
    sending: Counts | None = None
    receiving: Counts | None = None


Command = Put | Drop | Stat
_COMMANDS: Final = typed.decoder(Command)
_ANSWERS: Final = typed.decoder(Answer)
encode: Final = msgspec.json.encode


def decode_command(packet: bytes) -> Command:
    """A command; msgspec.DecodeError for anything else."""
    command: Command = _COMMANDS.decode(packet)
    return command


class WireClient:
    """The other end of the wire's control socket.

    Every call waits for its answer; Failed with what the wire said when it could not, OSError when
    it is gone or does not answer.
    """

    def __init__(self, control: socket.socket) -> None:
        control.settimeout(ANSWER_TIMEOUT_S)
        self._control = control

    def close(self) -> None:
        """Close the control socket; with its last copy the wire ends."""
        self._control.close()

    def call(self, command: Command) -> Answer:
        """Say one thing to the wire, and hear what came of it."""
        self._control.send(encode(command))
        packet = self._control.recv(MAX_PACKET_BYTES)
        if not packet:
            raise ConnectionResetError("the wire has ended")
        answer = _ANSWERS.decode(packet)
        if answer.error:
            raise Failed("wire", f"the user-space wire: {answer.error}")
        return answer
