#!/usr/bin/python3
"""ExaBGP's health check, told by init's jobs through a pipe instead of asking every few seconds.

A line in the pipe says that something has happened, not what: so none can be lost between two
others, and nothing is believed that is not so. Without a line it looks every five seconds, for a
server that runs and does not answer.
"""

import http.client
import os
import select
import sys

PIPE = "/run/health"
DRAIN = "/run/drain"
LOOK_S = 5.0
PATIENCE_S = 2.0
UP, DISABLED, DOWN = 100, 500, 1000
PREFIXES = [
    ["2001:db8:30::3/128", "192.0.2.3/32"],
    ["2001:db8:30::2/128", "192.0.2.2/32"],
    ["2001:db8:30::1/128", "192.0.2.1/32"],
]


def state() -> int:
    """The metric of the address that this node prefers."""
    if os.path.exists(DRAIN):
        return DISABLED
    connection = http.client.HTTPConnection("::1", 80, timeout=PATIENCE_S)
    try:
        connection.request("GET", "/")
        return UP if connection.getresponse().status == 200 else DOWN
    except (OSError, http.client.HTTPException):
        return DOWN
    finally:
        connection.close()


def announce(metric: int, start: int) -> None:
    """Each address with its own metric, as `healthcheck` of ExaBGP has them."""
    for further, prefixes in enumerate(PREFIXES[start:] + PREFIXES[:start]):
        for prefix in prefixes:
            print(f"announce route {prefix} next-hop self med {metric + further}")
    sys.stdout.flush()


def main() -> None:
    # Opened for both, so that it does not end when a writer has gone.
    pipe = os.open(PIPE, os.O_RDWR)
    told = None
    while True:
        now = state()
        if now != told:
            announce(now, int(sys.argv[1]))
            told = now
        if select.select([pipe], [], [], LOOK_S)[0]:
            os.read(pipe, 4096)


main()
