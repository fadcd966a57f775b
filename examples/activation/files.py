#!/usr/bin/env python3
"""http.server: the files of the working directory, over IPv4 or IPv6. `files.py [PORT]`

An init starts a service in `/` unless its job says `chdir`. It ends when nobody has asked for a
second; the init keeps listening.
"""

import http.server
import sys

from hostlab.activation import servers

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 8000

Handler = http.server.SimpleHTTPRequestHandler

if __name__ == "__main__":
    with servers.ThreadingHTTPServerV6(("::1", PORT), Handler) as server:
        servers.serve(server, idle_s=1)
