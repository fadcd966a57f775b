"""asyncio on a socket that was passed, or on its own address."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from hostlab.activation.inherited import Address, listener

Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def start_server(
    connected: Connected, address: Address, *, name: str | None = None, **further: Any
) -> asyncio.Server:
    """As `asyncio.start_server`; `address` counts by hand only (`activation.listener`)."""
    return await asyncio.start_server(connected, sock=listener(address, name=name), **further)


async def create_datagram_endpoint(
    factory: Callable[[], asyncio.DatagramProtocol], address: Address, *, name: str | None = None
) -> tuple[asyncio.DatagramTransport, asyncio.DatagramProtocol]:
    """As the loop's; `address` counts by hand only."""
    loop = asyncio.get_running_loop()
    bound = listener(address, name=name, kind=socket.SOCK_DGRAM)
    bound.setblocking(False)  # noqa: FBT003 - that is its signature
    return await loop.create_datagram_endpoint(factory, sock=bound)
