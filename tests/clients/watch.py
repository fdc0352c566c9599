"""Connects as a program that uses the library `websockets` does, and prints what it saw as one JSON object.

watch.py <url> <how> <token> <messages> [to send ...]

how: subprotocol, header or none. After so many messages it says goodbye, unless the server closes before.
"""

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


async def watch(url, how, token, count, sends):
    # The library reads no further while so many messages wait to be taken, and so no pong behind them: it is to take all.
    options = {"max_queue": None}
    if how == "subprotocol":
        options["subprotocols"] = ["token", token]
    elif how == "header":
        options["additional_headers"] = {"Authorization": f"Bearer {token}"}
    async with connect(url, max_size=None, **options) as socket:
        seen = {
            "status": socket.response.status_code,
            "subprotocol": socket.subprotocol,
            "headers": str(socket.response.headers),
            "messages": [],
        }
        try:
            latency = await asyncio.wait_for(await socket.ping(), 10)
            seen["pong"] = latency >= 0
            for text in sends:
                # In fragments, as the library sends an iterable.
                await socket.send(iter([text[:3], text[3:]]))
        except ConnectionClosed:
            pass
        try:
            while len(seen["messages"]) < count:
                seen["messages"].append(await asyncio.wait_for(socket.recv(), 10))
        except ConnectionClosed:
            pass
    seen["close"] = [socket.close_code, socket.close_reason]
    return seen


url, how, token, count, *sends = sys.argv[1:]
print(json.dumps(asyncio.run(watch(url, how, token, int(count), sends))))
