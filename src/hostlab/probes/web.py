"""HTTP requests from the current network namespace, with one deadline for all of it."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import urljoin, urlsplit

import msgspec

from hostlab.probes import certificate
from hostlab.probes.stream import TlsUntil, connect, over_tls, tls_context

BODY_BYTES: Final = 1 << 20
"""A body is looked at as far as this."""
REDIRECTS: Final = 5
_CHUNK_BYTES: Final = 1 << 16


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A server's answer."""

    url: str
    status: int
    reason: str
    location: str | None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes
    """Its first MiB."""
    address: str
    """Which address answered."""
    certificate: certificate.Certificate | None = None
    hops: tuple[tuple[str, int], ...] = ()
    """The redirects before it: each URL and its status."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked, but for the URL."""

    method: str = "GET"
    headers: Mapping[str, str] = {}
    verify: bool = True
    """Otherwise any certificate will do; else the node's own authorities decide, or `authorities`,
    a file."""
    authorities: str | None = None
    follow: bool = False
    """At most 5 redirects."""
    resolve: Mapping[str, str] = {}
    """HOST or HOST:PORT -> the address to take instead of what the name resolves to."""


def get(url: str, *, timeout_s: float, verify: bool = True, follow: bool = False) -> Page:
    """`ask` for a GET."""
    return ask(url, Request(verify=verify, follow=follow), timeout_s=timeout_s)


def ask(url: str, request: Request, *, timeout_s: float) -> Page:
    """One request, and those that it is redirected to, when asked.

    Raises `UnknownName`, `OSError` (with `ssl.SSLError`) and `http.client.HTTPException`.
    """
    until = time.monotonic() + timeout_s
    page = _once(url, request, until)
    hops: list[tuple[str, int]] = []
    for _ in range(REDIRECTS if request.follow else 0):
        if page.location is None or not 300 <= page.status < 400:
            break
        hops.append((url, page.status))
        url = urljoin(url, page.location)
        page = _once(url, request, until)
    return msgspec.structs.replace(page, hops=tuple(hops))


def server_of(url: str, resolve: Mapping[str, str]) -> tuple[str, int]:
    """The host, by name or address, and the port that a URL's request goes to.

    `http.client.InvalidURL` or ValueError for what is no such URL.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host:
        raise http.client.InvalidURL(f"not an http or https URL: {url}")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return resolve.get(f"{host}:{port}", resolve.get(host, host)), port


def _once(url: str, request: Request, until: float) -> Page:
    instead, port = server_of(url, request.resolve)
    parts = urlsplit(url)
    host = parts.hostname or ""
    sock: socket.socket
    sock, address = connect(instead, port, until)
    connection = http.client.HTTPConnection(host, port)
    try:
        seen = None
        if parts.scheme == "https":
            sock, seen = _tls(sock, host, request, until)
        connection.sock = sock
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"Host": parts.netloc.rpartition("@")[2], "Connection": "close"}
        headers |= {"User-Agent": "hostlab"} | dict(request.headers)
        connection.request(request.method, path, headers=headers)
        with connection.getresponse() as response:
            return Page(
                url=url,
                status=response.status,
                reason=response.reason,
                location=response.getheader("Location"),
                headers=tuple(response.getheaders()),
                body=_body(response),
                address=address,
                certificate=seen,
            )
    finally:
        sock.close()
        connection.close()


def _tls(
    sock: socket.socket, host: str, request: Request, until: float
) -> tuple[TlsUntil, certificate.Certificate]:
    context = tls_context(verify=request.verify, authorities=request.authorities)
    wrapped = over_tls(sock, host, until, context)
    der = wrapped.getpeercert(binary_form=True)
    assert der is not None, "a server has a certificate"

    return wrapped, certificate.decode(der)


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
