"""A client's FIFO that is written to for as long as the client is there (`journalctl -f`).

A write of at most PIPE_BUF bytes is taken whole or not at all (pipe(7)), so a client reads whole
lines. That it has gone is told by the kernel: a FIFO without a reader is in error (poll(2)).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Final

from hostlab.init.initctl.files import PIPE_BUF

LINE_BYTES: Final = 2000
"""A longer line is printed as several."""


class AnswerPipe:
    """Owns the descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.gone = asyncio.Event()
        asyncio.get_running_loop().add_reader(fd, self.gone.set)

    async def feed(self, text: str) -> bool:
        """Have the client print these lines; False when it has gone."""
        for piece in pieces(text):
            while not self.gone.is_set():
                try:
                    os.write(self._fd, piece)
                    break
                except BlockingIOError:
                    await self._room()
                except OSError:
                    self.gone.set()
        return not self.gone.is_set()

    async def _room(self) -> None:
        loop = asyncio.get_running_loop()
        has_room = asyncio.Event()
        loop.add_writer(self._fd, has_room.set)
        try:
            await has_room.wait()
        finally:
            loop.remove_writer(self._fd)

    def close(self) -> None:
        """Print no more."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._fd)
        loop.remove_writer(self._fd)
        os.close(self._fd)


def pieces(text: str) -> Iterator[bytes]:
    """Lines as the client's script takes them, as many at a time as are written in one piece."""
    piece = b""
    for line in text.replace("\0", "").splitlines():
        data = line.encode()
        for at in range(0, max(len(data), 1), LINE_BYTES):
            part = data[at : at + LINE_BYTES].decode(errors="replace").encode()
            said = b"o " + part + b"\n"
            if len(piece) + len(said) > PIPE_BUF:
                yield piece
                piece = b""
            piece += said
    if piece:
        yield piece
