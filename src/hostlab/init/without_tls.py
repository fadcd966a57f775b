"""asyncio without OpenSSL, which it loads for transports that no init makes: 2 MB of memory."""

from __future__ import annotations

import sys


def load_asyncio() -> None:
    """Import asyncio as where Python has no `ssl`; whoever wants that later can have it."""
    if "asyncio" in sys.modules or "ssl" in sys.modules:
        return
    sys.modules["ssl"] = None  # type: ignore[assignment]  # import's own word for "there is none"
    try:
        import asyncio  # noqa: F401
    finally:
        del sys.modules["ssl"]
