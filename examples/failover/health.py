"""Send a service address to the first of some servers that is healthy.

A server is asked for its page ten times a second. It is down when three answers in a row are
missing or wrong, and up again after three good ones. While there is a file /srv/NAME.off, it is
down.
"""

import http.client
import os
import socket
import struct
import sys
import threading

INTERVAL_S, TIMEOUT_S, FALL, RISE = 0.1, 0.3, 3, 3
RTM_NEWROUTE, NLMSG_ERROR = 24, 2
REQUEST_ACK_CREATE_REPLACE = 0x001 | 0x004 | 0x400 | 0x100
RTA_DST, RTA_GATEWAY = 1, 5
MAIN, STATIC, UNIVERSE, UNICAST = 254, 4, 0, 1


def send_to(service, server):
    """Replace the route to the service address in one step; rtnetlink(7)."""
    body = struct.pack("=8BI", socket.AF_INET, 32, 0, 0, MAIN, STATIC, UNIVERSE, UNICAST, 0)
    for kind, address in ((RTA_DST, service), (RTA_GATEWAY, server)):
        body += struct.pack("=HH", 8, kind) + socket.inet_aton(address)
    head = struct.pack("=IHHII", 16 + len(body), RTM_NEWROUTE, REQUEST_ACK_CREATE_REPLACE, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as kernel:
        kernel.send(head + body)
        kind, code = struct.unpack("=4xH10xi", kernel.recv(4096)[:20])
        if kind != NLMSG_ERROR or code:
            raise OSError(-code, "the route cannot be set")


def is_good(address):
    """Whether it answers as it should. By its own address: its name stands for the service, too."""
    try:
        connection = http.client.HTTPConnection(address, 80, timeout=TIMEOUT_S)
        connection.request("GET", "/", headers={"Connection": "close"})
        status = connection.getresponse().status
        connection.close()
    except (OSError, http.client.HTTPException):
        return False
    return status == 200


class Health:
    """Which servers are up, and where the service address leads."""

    def __init__(self, service, servers):
        self.service = service
        self.addresses = {name: socket.gethostbyname(name) for name in servers}
        self.up = dict.fromkeys(servers, False)
        self.serving = None
        self.lock = threading.Lock()

    def watch(self, server):
        """Ask one server for ever."""
        run, pause = 0, threading.Event()
        while True:
            up = not os.path.exists(f"/srv/{server}.off") and is_good(self.addresses[server])
            run = 0 if up is self.up[server] else run + 1
            if run >= (FALL if self.up[server] else RISE):
                self.turn(server)
            pause.wait(INTERVAL_S)

    def turn(self, server):
        """What was up is down, or the other way; the first one that is up serves."""
        with self.lock:
            self.up[server] = not self.up[server]
            print(server, "is up" if self.up[server] else "is down")
            first = next((name for name, up in self.up.items() if up), self.serving)
            if first != self.serving:
                send_to(self.service, self.addresses[first])
                print(first, "serves", self.service)
                self.serving = first


service, *servers = sys.argv[1:]
health = Health(service, servers)
for each in servers:
    threading.Thread(target=health.watch, args=(each,)).start()
