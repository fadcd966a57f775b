"""Servers for the tests of checks: run inside a node, each told by an argument, until stdin ends.

`echo:tcp:HOST:PORT`, `echo:udp:…`, `mute:tcp:…` (takes and says nothing), `mute:udp:…`,
`web:HOST:PORT`, `tls:HOST:PORT:PEM`, `drip:HOST:PORT` (a byte of header now and then).
HOST is an address; `any6` is :: without IPv4, `any` is :: with it.
"""

from __future__ import annotations

import http.server
import socket
import ssl
import sys
import threading


def bound(host: str, port: str, kind: socket.SocketKind) -> socket.socket:
    name = "::" if host in ("any", "any6") else host.replace("_", ":")
    sock = socket.socket(socket.AF_INET6 if ":" in name else socket.AF_INET, kind)
    if ":" in name:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "any"))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((name, int(port)))
    if kind == socket.SOCK_STREAM:
        sock.listen()
    return sock


class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = {"/": 200, "/moved": 302}.get(self.path, 404)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/")
        self.end_headers()
        self.wfile.write(b"hello from the node\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base's name)
        pass


class Server(http.server.ThreadingHTTPServer):
    def __init__(self, sock: socket.socket) -> None:
        super().__init__(("", 0), Pages, bind_and_activate=False)
        self.socket.close()
        self.socket = sock


def echo_datagrams(sock: socket.socket) -> None:
    while True:
        data, peer = sock.recvfrom(4096)
        sock.sendto(data, peer)


def drip(sock: socket.socket) -> None:
    ticks = threading.Event()
    while True:
        peer, _ = sock.accept()
        peer.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        try:
            while not ticks.wait(0.02):
                peer.sendall(b"x")
        except OSError:
            peer.close()


def start(what: str, *words: str) -> None:
    if what in ("echo", "mute"):
        kind = socket.SOCK_STREAM if words[0] == "tcp" else socket.SOCK_DGRAM
        sock = bound(words[1], words[2], kind)
        work = echo_datagrams if (what, words[0]) == ("echo", "udp") else None
    else:
        sock = bound(words[0], words[1], socket.SOCK_STREAM)
        work = drip if what == "drip" else None
        if what == "tls":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(words[2])
            sock = context.wrap_socket(sock, server_side=True)
        if what in ("web", "tls"):
            threading.Thread(target=Server(sock).serve_forever, daemon=True).start()
    KEPT.append(sock)
    if work:
        threading.Thread(target=work, args=(sock,), daemon=True).start()


KEPT: list[socket.socket] = []

if __name__ == "__main__":
    for argument in sys.argv[1:]:
        start(*argument.split(":"))
    print("ready", flush=True)  # noqa: T201
    sys.stdin.read()
