#!/usr/bin/env python3
"""socketserver: sends back in upper case what it is sent. `upper.py [PORT]`

The example of Python's documentation. All that has changed for an init is the class `TCPServer`,
and that one request is handled there (`idle_s=0` would be more: all that wait).
"""

import socketserver
import sys

from hostlab import activation
from hostlab.activation import servers

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 9999


class MyTCPHandler(socketserver.BaseRequestHandler):
    def handle(self):
        # self.request is the TCP socket connected to the client
        self.data = self.request.recv(1024).strip()
        # just send back the same data, but upper-cased
        self.request.sendall(self.data.upper())


if __name__ == "__main__":
    with servers.TCPServer(("localhost", PORT), MyTCPHandler) as server:
        if activation.is_activated():
            server.handle_request()  # run once, then terminate
        else:
            server.serve_forever()
