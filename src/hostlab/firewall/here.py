"""Tools run on this machine itself, as a node's `execute` runs them in a node."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from hostlab.errors import Unsupported
from hostlab.lab.access import Completed


def run_here(
    argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float | None = None
) -> Completed:
    """Run a program here; TimeoutError when it is late, Unsupported when it is not installed."""
    try:
        done = subprocess.run(
            argv, input=stdin, capture_output=True, check=False, timeout=timeout_s
        )
    except FileNotFoundError:
        hint = "apt-get install nftables iptables ipset iproute2"
        raise Unsupported("no-tool", f"{argv[0]} is not here", hint=hint) from None
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{argv[0]} has not ended in time") from None
    number = -done.returncode if done.returncode < 0 else None
    status = 128 + number if number is not None else done.returncode
    return Completed(status, number, done.stdout, done.stderr)
