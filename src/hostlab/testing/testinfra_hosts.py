"""hostlab's hosts made known to testinfra, which has no hook for others' backends.

    hostlab://LAB/NODE     a node; `hostlab://LAB` is all of them, `hostlab://LAB/web*` some
    hostlab://             this machine
    hostlab+ssh://HOST     by ssh, one connection a host

The pytest plugin calls `register` when testinfra is loaded; a script that uses testinfra by itself
calls it once.
"""

from __future__ import annotations

import urllib.parse
from typing import Any, Final

from testinfra import backend

SCHEMES: Final = {
    "hostlab": "hostlab.testing.testinfra_backend.HostlabBackend",
    "hostlab+ssh": "hostlab.testing.testinfra_backend.MultiplexedSshBackend",
}


def register() -> None:
    """Make testinfra know the schemes; a second time does nothing."""
    if "hostlab" in backend.BACKENDS:
        return
    backend.BACKENDS.update(SCHEMES)
    original = backend.parse_hostspec

    def parse_hostspec(hostspec: str) -> tuple[str, dict[str, Any]]:
        """testinfra's own keeps no path, where the name of the node stands."""
        host, keywords = original(hostspec)
        if keywords.get("connection") == "hostlab":
            host += urllib.parse.unquote(urllib.parse.urlparse(hostspec).path).rstrip("/")
        return host, keywords

    backend.parse_hostspec = parse_hostspec
