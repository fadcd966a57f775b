"""socketserver, http.server and wsgiref, on a socket that was passed or on their own address.

`Activated` goes before any class of socketserver:

    class Server(Activated, socketserver.ThreadingTCPServer):
        '''Runs under an init and by hand.'''

The usual combinations are here. By hand they bind their address as ever. When a service of an
init has nothing to do it may end (`handle_request` once, or `serve_until_idle`): the socket is
the init's, so who connects meanwhile waits for the next one, and nobody is refused.
"""

from __future__ import annotations

import http.server
import select
import socket
import socketserver
from collections.abc import Callable
from typing import Any, ClassVar

from hostlab.activation.inherited import is_activated, take

Handler = Callable[[Any, Any, Any], socketserver.BaseRequestHandler]


class Activated(socketserver.BaseServer):
    """Mixin: takes the passed socket instead of binding and listening."""

    socket: socket.socket
    address_family: int
    socket_name: ClassVar[str | None] = None
    """Which of several sockets, by its name in `LISTEN_FDNAMES`."""
    is_given = False
    """Whether the socket was passed."""

    def server_bind(self) -> None:
        """Called by the constructor, which has made a socket of its own that nobody needs."""
        given = take(self.socket_name, self.socket.type)
        if given is None:
            super().server_bind()  # type: ignore[misc]  # of the class that this is mixed with
            return
        self.socket.close()
        self.socket = given
        self.is_given = True
        self.address_family = given.family
        self.server_address = given.getsockname()

    def server_activate(self) -> None:
        """A passed socket listens already; to listen again would change its backlog."""
        if not self.is_given:
            super().server_activate()


class TCPServer(Activated, socketserver.TCPServer):
    """One connection after the other."""

    allow_reuse_address = True


class UDPServer(Activated, socketserver.UDPServer):
    """One datagram after the other."""


class ThreadingTCPServer(Activated, socketserver.ThreadingTCPServer):
    """A thread a connection."""

    allow_reuse_address = True


class _Web(Activated):
    """What http.server wants to know of the address."""

    def server_bind(self) -> None:
        super().server_bind()
        if self.is_given:
            # HTTPServer asks the name service for its name, which only CGI scripts are told.
            host, port, *_ = (*_pair(self.server_address), 0)
            self.server_name = str(host)
            self.server_port = int(port)

    def get_request(self) -> tuple[Any, Any]:
        """A client of a Unix socket has no address, and http.server logs one."""
        connection, address = super().get_request()
        return connection, address or ("unix", 0)


class HTTPServer(_Web, http.server.HTTPServer):
    """http.server's, one connection after the other."""


class ThreadingHTTPServer(_Web, http.server.ThreadingHTTPServer):
    """http.server's, a thread a connection."""

    # A service that ends when it is idle must not cut off an answer that is still on its way.
    daemon_threads = False


class HTTPServerV6(HTTPServer):
    """As `HTTPServer`; by hand it binds an IPv6 address."""

    address_family = socket.AF_INET6


class ThreadingHTTPServerV6(ThreadingHTTPServer):
    """As `ThreadingHTTPServer`; by hand it binds an IPv6 address."""

    address_family = socket.AF_INET6


def make_wsgi_server(host: str, port: int, application: Callable[..., Any]) -> Any:
    """wsgiref's server, as `wsgiref.simple_server.make_server` makes it."""
    from wsgiref import simple_server

    class Server(_Web, simple_server.WSGIServer):
        def server_bind(self) -> None:
            super().server_bind()
            if self.is_given:
                self.setup_environ()

    server = Server((host, port), simple_server.WSGIRequestHandler)
    server.set_app(application)
    return server


def serve(server: socketserver.TCPServer, *, idle_s: float | None = None) -> None:
    """Serve as long as it makes sense: by hand for ever, under an init until it is idle.

    `idle_s` None is for ever there too; 0 handles what is there and ends.
    """
    if idle_s is None or not is_activated():
        server.serve_forever()
    else:
        serve_until_idle(server, idle_s)


def serve_until_idle(server: socketserver.TCPServer, idle_s: float) -> None:
    """Handle requests until none has come for so long; threads are waited for by `server_close`."""
    while select.select([server], [], [], idle_s)[0]:
        server.handle_request()


def _pair(address: Any) -> tuple[Any, ...]:
    return (address, 0) if isinstance(address, str | bytes) else tuple(address)
