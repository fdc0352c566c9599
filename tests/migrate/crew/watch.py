"""A watcher with the library `websockets`: missions, tools and one run.

watch.py <gateway> <token>: prints each event as a line.
"""

import asyncio
import json
import sys

import websockets

url, token = sys.argv[1:]


async def follow(path, show):
    async with websockets.connect(f"{url}{path}", subprotocols=["token", token]) as socket:
        try:
            async for text in socket:
                message = json.loads(text)
                if message["type"] == "ping":
                    await socket.send(json.dumps({"type": "pong"}))
                else:
                    print(*show(message), flush=True)
        except websockets.ConnectionClosedError:
            pass
        return socket.close_code, socket.close_reason


async def follow_run():
    code, reason = await follow("/ws/runs/r1", lambda event: ["run", event["type"]])
    print("state completed" if code == 1000 else f"state refused: {code} {reason}", flush=True)


def signal(message):
    return ["mission", message["payload"]["crewId"], message["payload"]["status"]]


async def main():
    await asyncio.gather(
        follow("/ws/mission", signal),
        follow("/ws/graph?crew_id=abc", lambda event: ["graph", event["type"], event.get("tool")]),
        follow_run(),
    )


asyncio.run(main())
