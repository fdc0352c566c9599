"""A manager with the library `websockets`: keeps agents and tasks by id, and the highest sequence.

manager.py <gateway> [<token>]: prints each event as a line.
"""

import asyncio
import json
import sys

import websockets


class Manager:
    def __init__(self):
        self.sequence = 0
        self.tasks = {}

    def take(self, message):
        if message.get("sequence", 0) <= self.sequence:
            return
        self.sequence = message["sequence"]
        kind, data = message["type"], message["data"]
        if kind == "task_progress":
            self.tasks[data["task_id"]] = data["progress"]
            print("event task_progress", data["task_id"], data["progress"], flush=True)
        else:
            print("event", kind, flush=True)


async def main(url, token=None):
    manager = Manager()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async for socket in websockets.connect(f"{url}/ws", additional_headers=headers):
        try:
            await socket.send(json.dumps({"type": "ping"}))
            async for text in socket:
                message = json.loads(text)
                if message["type"] == "pong":
                    print("pong", flush=True)
                else:
                    manager.take(message)
        except websockets.ConnectionClosed:
            continue


asyncio.run(main(*sys.argv[1:]))
