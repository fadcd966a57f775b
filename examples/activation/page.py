#!/usr/bin/env python3
"""http.server: a page that says which path was asked for. `page.py [PORT]`

Under Upstart, systemd or hostlab it handles one request and ends; by hand it runs on.

The well-known conversion of this service took `int(os.environ["LISTEN_FDS"])` for the descriptor
under systemd. It is not: LISTEN_FDS is the *number* of descriptors, and the first one is 3. With
one socket that code takes descriptor 1, standard output. UPSTART_FDS is a descriptor. What
`hostlab.activation` does is right for both; written out, it is

    if "UPSTART_FDS" in os.environ:
        fd = int(os.environ["UPSTART_FDS"])
    elif os.environ.get("LISTEN_PID") == str(os.getpid()):
        fd = 3  # SD_LISTEN_FDS_START; there are LISTEN_FDS of them
"""

import http.server
import sys

from hostlab import activation
from hostlab.activation import servers

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 8000


class MyHandler(http.server.BaseHTTPRequestHandler):
    """Reads the URL and responds with the path."""

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-type", "text/html")
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        content = [
            "<html><head><title>The Title</title></head>",
            "<body>This is a test.<br />",
            "You accessed path: ",
            self.path,
            "<br />",
            "</body></html>",
        ]
        self.wfile.write("".join(content).encode("UTF-8"))


if __name__ == "__main__":
    with servers.HTTPServer(("127.0.0.1", PORT), MyHandler) as httpd:
        if activation.is_activated():
            httpd.handle_request()  # handle once, then terminate
        else:
            httpd.serve_forever()
