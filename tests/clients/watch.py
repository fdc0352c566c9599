"""Connects with the library `websockets` and prints what it received as one JSON object.

watch.py <url> <how> <token> <messages> [to send ...]

how: subprotocol, header or none. Closes the socket after this many messages, unless the server closes it before.
"""

import asyncio
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


async def watch(url, how, token, count, sends):
    # With a limit, the library stops reading when messages queue up, and then misses the pong after them.
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
                # The library sends an iterable in fragments.
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
