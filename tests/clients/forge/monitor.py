"""A monitor program: prints changes of the tasks and the newest metrics.

monitor.py <token> <base url>
"""

import asyncio
import json
import sys

import websockets


async def follow(path, token, show):
    async for socket in websockets.connect(f"{sys.argv[2]}{path}", subprotocols=["token", token]):
        try:
            await socket.send("ping")
            async for text in socket:
                show(json.loads(text))
        except websockets.ConnectionClosed:
            continue


def task(message):
    if message["type"] == "snapshot":
        print("running", sorted(message["data"]), flush=True)
    elif message["type"].startswith("task_"):
        print(message["type"], message["data"]["task_id"], flush=True)
    else:
        print(message["type"], flush=True)


def metrics(message):
    if message["type"] == "metrics":
        print("metrics", sorted(message["data"]), flush=True)


async def main():
    token = sys.argv[1]
    await asyncio.gather(follow("/ws/tasks", token, task), follow("/ws/metrics", token, metrics))


asyncio.run(main())
