"""A manager's view written with the library `websockets`: reads batches and resumes after the last message.

manager.py <jwt> <address>...: prints the sequence and type of each event as a line.
"""

import asyncio
import itertools
import json
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

STAY = {1000, 4401, 4403}


async def follow(jwt, addresses):
    since = None
    headers = {"Authorization": f"Bearer {jwt}"}
    for address in itertools.cycle(addresses):
        resume = f"&since={since}" if since else ""
        try:
            async with connect(f"{address}?batch_ms=50{resume}", additional_headers=headers) as socket:
                async for batch in socket:
                    for message in json.loads(batch):
                        if message.get("source") == "gateway":
                            continue
                        since = message.get("message_id", since)
                        print(message["sequence"], message["type"], flush=True)
                if socket.close_code in STAY:
                    return
        except ConnectionClosed as closed:
            if closed.rcvd and closed.rcvd.code in STAY:
                return
        except (OSError, InvalidHandshake):
            pass
        await asyncio.sleep(0.1)


asyncio.run(follow(sys.argv[1], sys.argv[2:]))
