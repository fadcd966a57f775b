"""Sockets that a service was started with: one code path for Upstart, systemd, hostlab, and none.

    from hostlab import activation

    with activation.listener(("127.0.0.1", 8000)) as listener:
        connection, address = listener.accept()

Started by an init that listens for it, the service gets that init's socket; started by hand it
binds and listens itself. `servers` has the same for socketserver, http.server and wsgiref,
`streams` for asyncio. All of it imports the standard library only, and of that only what is used.
"""

from hostlab.activation.inherited import ActivationError, Given, given, is_activated, listener

__all__ = ["ActivationError", "Given", "given", "is_activated", "listener"]
