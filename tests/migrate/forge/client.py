"""A client with the library `websockets`: one connection for each endpoint, and a text `ping` on each.

client.py <gateway>: prints what it received as lines.
"""

import asyncio
import json
import sys

import websockets

SUBJECTS = ["task_id", "agent_id", "node_id", "source"]


def words(endpoint, message):
    kind, data = message["type"], message.get("data", {})
    if kind == "pong":
        return ["pong", endpoint]
    if endpoint == "metrics":
        return ["metrics", *sorted(data)]
    if endpoint == "dashboard":
        return ["dashboard", json.dumps(data["agents"]["by_status"], separators=(",", ":")), "events", len(data["events"])]
    if kind == "snapshot":
        return [endpoint, "snapshot"]
    return [endpoint, kind, next((data[key] for key in SUBJECTS if key in data), "")]


async def follow(url, endpoint):
    async for socket in websockets.connect(f"{url}/ws/{endpoint}"):
        try:
            await socket.send("ping")
            async for text in socket:
                message = json.loads(text)
                if message["type"] != "ping":
                    print(*words(endpoint, message), flush=True)
        except websockets.ConnectionClosed:
            continue


async def main(url):
    await asyncio.gather(*(follow(url, one) for one in ["agents", "tasks", "knowledge", "metrics", "dashboard"]))


asyncio.run(main(sys.argv[1]))
