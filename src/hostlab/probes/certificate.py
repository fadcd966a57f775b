"""What a certificate says of itself: names, issuer and dates; X.509 (RFC 5280) in DER (X.690).

The ssl module tells this of certificates that it has verified only, and the interesting ones are
those that it refuses: they have expired, or have another name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Final

import msgspec

from hostlab.errors import DecodeError

_SEQUENCE: Final = 0x30
_OID: Final = 0x06
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
_VERSION: Final = 0xA0
_EXTENSIONS: Final = 0xA3
_DNS_NAME: Final = 0x82
_IP_ADDRESS: Final = 0x87
_COMMON_NAME: Final = bytes.fromhex("550403")
_SUBJECT_ALT_NAME: Final = bytes.fromhex("551d11")
_STAMP: Final = re.compile("([0-9]{4})" + "([0-9]{2})" * 5 + "Z")
_DAY_S: Final = 86400


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """A server's certificate."""

    subject: str
    """Its common name; empty when it has none."""
    issuer: str
    names: tuple[str, ...]
    """The hosts it is for: names and addresses."""
    not_before: datetime
    not_after: datetime
    serial: str
    sha256: str

    def days_left(self, now: float) -> float:
        """How many days it is still good, at a time in seconds since the epoch; below 0: not."""
        return (self.not_after.timestamp() - now) / _DAY_S


def decode(der: bytes) -> Certificate:
    """A certificate; DecodeError for bytes that are none."""
    try:
        return _decode(der)
    except (IndexError, ValueError, StopIteration) as error:
        raise DecodeError("certificate", f"this is no certificate: {error}") from error


def _decode(der: bytes) -> Certificate:
    whole = _inside(der, _SEQUENCE)
    fields = list(_parts(_inside(whole, _SEQUENCE)))
    if fields[0][0] == _VERSION:
        fields.pop(0)
    (_, serial), _, (_, issuer), (_, validity), (_, subject) = fields[:5]
    before, after = (_time(tag, value) for tag, value in _parts(validity))
    names: list[str] = []
    for tag, value in fields[5:]:
        if tag == _EXTENSIONS:
            names = list(_names(_inside(value, _SEQUENCE)))
    return Certificate(
        subject=_common_name(subject),
        issuer=_common_name(issuer),
        names=tuple(names),
        not_before=before,
        not_after=after,
        serial=serial.hex(),
        sha256=hashlib.sha256(der).hexdigest(),
    )


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each value; X.690 §8.1, definite lengths and small tags only."""
    at = 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            if not 0 < size <= 4:
                raise ValueError("a length of DER has one to four bytes")
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        if at + length > len(data):
            raise ValueError("it is cut off")
        yield tag, data[at : at + length]
        at += length


def _inside(data: bytes, wanted: int) -> bytes:
    tag, value = next(_parts(data))
    if tag != wanted:
        raise ValueError(f"tag {tag:#x} stands where {wanted:#x} belongs")
    return value


def _time(tag: int, value: bytes) -> datetime:
    """RFC 5280 §4.1.2.5: both forms end with Z; of two digits, those from 50 on are 19xx."""
    text = value.decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError(f"tag {tag:#x} is no time")
    # Not by strptime, which imports a module at its first use: inside a node there is none.
    found = _STAMP.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no time")
    year, month, day, hour, minute, second = map(int, found.groups())
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)


def _common_name(name: bytes) -> str:
    found = ""
    for _, relative in _parts(name):
        for _, attribute in _parts(relative):
            (tag, oid), (_, value) = list(_parts(attribute))[:2]
            if tag == _OID and oid == _COMMON_NAME:
                found = value.decode(errors="replace")
    return found


def _names(extensions: bytes) -> Iterator[str]:
    for _, extension in _parts(extensions):
        fields = list(_parts(extension))
        if fields[0] != (_OID, _SUBJECT_ALT_NAME):
            continue
        for tag, value in _parts(_inside(fields[-1][1], _SEQUENCE)):
            if tag == _DNS_NAME:
                yield value.decode("ascii", errors="replace")
            elif tag == _IP_ADDRESS:
                yield str(ip_address(value))
