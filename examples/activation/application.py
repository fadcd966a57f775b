#!/usr/bin/env python3
"""wsgiref: an application. `application.py [PORT]`"""

import sys

from hostlab.activation import servers

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 8000


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [f"You accessed path: {environ['PATH_INFO']}\n".encode()]


if __name__ == "__main__":
    with servers.make_wsgi_server("127.0.0.1", PORT, application) as server:
        servers.serve(server, idle_s=1)
