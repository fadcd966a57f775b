"""One HTTP request from the current network namespace, with one deadline for all of it.

http.client's time limit is for each read, so a server that sends a byte now and then could hold a
reader for ever. These sockets give every read what is left until the deadline.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import msgspec

from hostlab.checks.names import addresses

BODY_BYTES: Final = 1 << 20
"""A body is looked at as far as this."""
REDIRECTS: Final = 5
CONNECT_S: Final = 1.0
"""A handshake's longest time; a lost first packet is better sent anew by the next attempt."""
_CHUNK_BYTES: Final = 1 << 16


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A server's answer."""

    status: int
    reason: str
    location: str | None
    body: bytes
    """Its first MiB."""
    address: str
    """Which address answered."""


class _Until(socket.socket):
    """A socket whose every read ends at a deadline."""

    until: float

    def recv_into(self, *arguments: Any) -> int:
        self.settimeout(_left(self.until))
        return super().recv_into(*arguments)


class _TlsUntil(ssl.SSLSocket):
    until: float

    def recv_into(self, *arguments: Any) -> int:
        self.settimeout(_left(self.until))
        return super().recv_into(*arguments)


def _left(until: float) -> float:
    left_s = until - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("no whole answer in time")
    return left_s


def get(url: str, *, timeout_s: float, verify: bool = True, follow: bool = False) -> Page:
    """GET `url`; at most 5 redirects are followed, when asked.

    `verify=False` takes any certificate; otherwise the node's own authorities decide. Raises
    `UnknownName`, `OSError` (with `ssl.SSLError`) and `http.client.HTTPException`.
    """
    until = time.monotonic() + timeout_s
    page = _get_once(url, until, verify=verify)
    for _ in range(REDIRECTS if follow else 0):
        if page.location is None or not 300 <= page.status < 400:
            break
        url = urljoin(url, page.location)
        page = _get_once(url, until, verify=verify)
    return page


def _get_once(url: str, until: float, *, verify: bool) -> Page:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host:
        raise http.client.InvalidURL(f"not an http or https URL: {url}")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    sock, address = _connect(host, port, until)
    connection = http.client.HTTPConnection(host, port)
    try:
        tls = parts.scheme == "https"
        connection.sock = _tls(sock, host, until, verify=verify) if tls else sock
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"Host": parts.netloc.rpartition("@")[2], "Connection": "close"}
        connection.request("GET", path, headers=headers | {"User-Agent": "hostlab"})
        with connection.getresponse() as response:
            return Page(
                status=response.status,
                reason=response.reason,
                location=response.getheader("Location"),
                body=_body(response),
                address=address,
            )
    finally:
        sock.close()
        connection.close()


def _connect(host: str, port: int, until: float) -> tuple[_Until, str]:
    """The first address that completes the handshake; else the last one's error."""
    problem: OSError | None = None
    candidates = addresses(host)
    for index, address in enumerate(candidates):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = _Until(family, socket.SOCK_STREAM)
        try:
            sock.until = until
            # Each has its share, so that a silent first address does not hide a good second.
            sock.settimeout(min(CONNECT_S, _left(until) / (len(candidates) - index)))
            sock.connect((address, port))
        except OSError as error:
            sock.close()
            problem = OSError(error.errno, f"{error.strerror or error}", address)
            continue
        return sock, address
    assert problem is not None
    raise problem


def _tls(sock: _Until, host: str, until: float, *, verify: bool) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.sslsocket_class = _TlsUntil
    sock.settimeout(_left(until))
    wrapped = context.wrap_socket(sock, server_hostname=host)
    assert isinstance(wrapped, _TlsUntil)
    wrapped.until = until
    return wrapped


def _body(response: http.client.HTTPResponse) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while size < BODY_BYTES:
        chunk = response.read(min(_CHUNK_BYTES, BODY_BYTES - size))
        if not chunk:
            break
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)
