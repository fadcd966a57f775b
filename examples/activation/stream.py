#!/usr/bin/env python3
"""asyncio: sends back each line in upper case. `stream.py [PORT]`"""

import asyncio
import sys

from hostlab.activation import streams

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 9999


async def connected(reader, writer):
    async for line in reader:
        writer.write(line.upper())
        await writer.drain()
    writer.close()


async def main():
    async with await streams.start_server(connected, ("127.0.0.1", PORT)) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
