"""A monitor written with the library `websockets`: alerts on failures in any of its streams.

monitor.py <url> <token> <alerts>: prints each alert as a line.
"""

import asyncio
import json
import sys

from websockets.asyncio.client import connect

ALARMING = ["EXECUTION_FAILED", "CONSTRAINT_VIOLATION"]


async def monitor(url, token, alerts):
    async with connect(url) as socket:
        # Sent at once. The server handles them in order.
        await socket.send(json.dumps({"action": "auth", "token": token}))
        await socket.send(json.dumps({"action": "subscribe", "event_types": ALARMING, "ref": "alarms"}))
        async for text in socket:
            message = json.loads(text)
            if message["type"] == "subscribed":
                print("watching", *sorted(message["position"]), flush=True)
            elif message["type"] == "event":
                event = message["event"]
                print("alert", message["channel"], event["type"].lower(), event["data"].get("error"), flush=True)
                alerts -= 1
                if alerts == 0:
                    return


asyncio.run(asyncio.wait_for(monitor(sys.argv[1], sys.argv[2], int(sys.argv[3])), 15))
