"""A report's page over HTTP, for a browser on this machine.

It is read anew at each request, so a check that writes the report again is seen by a reload. Only
the machine itself is answered, and only under its own name: a page of others whose name leads here
gets nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import quote, unquote, urlsplit

import msgspec

from hostlab.checks.page import page
from hostlab.checks.run import FILE, read_run
from hostlab.errors import Problem

ADDRESS: Final = "127.0.0.1"
_NAMES: Final = frozenset({"127.0.0.1", "localhost"})
_POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; base-uri 'none'"
)


def reports_in(path: str) -> Iterator[str]:
    """The names of the reports below a directory of several; none where it is one itself."""
    if not os.path.isdir(path) or os.path.exists(os.path.join(path, FILE)):
        return
    for name in sorted(os.listdir(path)):
        if os.path.exists(os.path.join(path, name, FILE)):
            yield name


def server(path: str, port: int) -> ThreadingHTTPServer:
    """Serves a report, or a directory of several, on 127.0.0.1; port 0 is any that is free.

    OSError where the port is taken.
    """

    class Handler(_Handler):
        report = path

    return ThreadingHTTPServer((ADDRESS, port), Handler)


class _Handler(BaseHTTPRequestHandler):
    report: str
    server_version = "hostlab"
    sys_version = ""

    def do_GET(self) -> None:
        """`/` and `/report.json`, or `/NAME/` and `/NAME/report.json` of several."""
        host = (self.headers.get("Host") or "").rpartition(":")[0] or self.headers.get("Host", "")
        if host not in _NAMES:
            self._answer(HTTPStatus.FORBIDDEN, "text/plain", "ask for 127.0.0.1\n")
            return
        names = list(reports_in(self.report))
        parts = [unquote(part) for part in urlsplit(self.path).path.split("/")[1:]]
        place = self.report
        if names:
            if parts == [""]:
                self._answer(HTTPStatus.OK, "text/html", _index(names))
                return
            name, *parts = parts
            if name not in names:
                self._missing()
                return
            place = os.path.join(self.report, name)
        self._report(place, parts)

    def _report(self, place: str, parts: list[str]) -> None:
        if parts not in ([""], ["index.html"], [FILE]):
            self._missing()
            return
        try:
            run = read_run(place)
        except Problem as problem:
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", f"{problem}\n")
            return
        if parts == [FILE]:
            text = msgspec.json.encode(run).decode()
            self._answer(HTTPStatus.OK, "application/json", text)
        else:
            self._answer(HTTPStatus.OK, "text/html", page(run))

    def _missing(self) -> None:
        self._answer(HTTPStatus.NOT_FOUND, "text/plain", "there is no such report\n")

    def _answer(self, status: HTTPStatus, kind: str, text: str) -> None:
        data = text.encode(errors="replace")
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the class's name)
        """Nothing: who asks is whoever started it."""


def _index(names: list[str]) -> str:
    links = "".join(f'<li><a href="/{quote(name)}/">{escape(name)}</a>' for name in names)
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Reports</title>'
    return f"{head}<h1>Reports</h1><ul>{links}</ul>\n"
