"""An orchestrator with the library `websockets`: when the writer's execution is completed, it starts the reviewer's.

orchestrator.py <gateway> <token> <redis url>: prints what it received and started as lines.
"""

import asyncio
import json
import sys

import redis
import websockets

url, token, redis_url = sys.argv[1:]
server = redis.Redis.from_url(redis_url)


def start_reviewer(execution, output):
    event = {
        "type": "execution_started",
        "stream_id": "reviewer",
        "execution_id": f"review-of-{execution}",
        "timestamp": "2026-03-01T12:00:03Z",
        "data": {"input_data": output},
    }
    server.publish("stream:reviewer", json.dumps(event))


async def main():
    async with websockets.connect(f"{url}/ws/stream") as socket:
        await socket.send(json.dumps({"action": "auth", "token": token}))
        if json.loads(await socket.recv())["type"] != "authenticated":
            return
        wanted = ["execution_started", "execution_completed"]
        await socket.send(json.dumps({"action": "subscribe", "event_types": wanted}))
        async for text in socket:
            message = json.loads(text)
            if message["type"] != "event":
                continue
            event = message["event"]
            print(message["channel"], event["type"], event["execution_id"], flush=True)
            if event["type"] == "execution_completed":
                start_reviewer(event["execution_id"], event["data"]["output"])


asyncio.run(main())
