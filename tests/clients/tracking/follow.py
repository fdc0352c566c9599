"""Follows a session with the library `websockets`, waiting for each answer in turn.

follow.py <url> <token> <session> <lines>: prints the session's log until this many lines have come.
"""

import asyncio
import json
import sys

from websockets.asyncio.client import connect


async def follow(url, token, session, lines):
    async with connect(url, additional_headers={"Authorization": f"Bearer {token}"}) as socket:
        await socket.send(json.dumps({"type": "start_log_streaming", "session_id": session}))
        async for text in socket:
            message = json.loads(text)
            if message["type"] == "ping":
                await socket.send(json.dumps({"type": "pong"}))
            elif message["type"] == "active_sessions":
                print("active", message["data"]["total_sessions"], flush=True)
            elif message["type"] == "session_logs":
                for line in message["logs"]:
                    print("log", line["message"], flush=True)
                lines -= len(message["logs"])
                if lines <= 0:
                    return


asyncio.run(asyncio.wait_for(follow(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])), 15))
