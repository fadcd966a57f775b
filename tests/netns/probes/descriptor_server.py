"""Sends each client two descriptors, a file and a socket, with a word; ends when it is killed."""

import socket
import sys

listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
while True:
    client, _ = listener.accept()
    with client, open("/etc/hosts") as file:
        socket.send_fds(client, [b"here\n"], [file.fileno(), listener.fileno()])
