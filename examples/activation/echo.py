#!/usr/bin/env python3
"""The echo service of test-service.py, under any init and by hand: `echo.py [PORT]`.

Under an init it answers one connection and ends; the next connection starts it again.
"""

import sys

from hostlab import activation

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 34567

with activation.listener(("127.0.0.1", PORT)) as listener:
    while True:
        connection, _ = listener.accept()
        with connection:
            message = connection.recv(1024)
            connection.sendall(b"I got your message: " + message)
        if activation.is_activated():
            break
