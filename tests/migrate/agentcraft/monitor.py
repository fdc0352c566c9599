"""A monitor with the library `websockets`: agents, collaborations, and the session s1 once it is active.

monitor.py <gateway> <client id>: prints what it received as lines.
"""

import asyncio
import json
import sys

import websockets


def show(message):
    kind = message["type"]
    if kind == "active_sessions":
        data = message["data"]
        yield ["sessions", data["total_sessions"], *(one["session_id"] for one in data["sessions"])]
    elif kind == "agent_status":
        yield ["agent", message["agent_name"], message["status"], message["progress"]]
    elif kind == "agent_collaboration":
        yield ["collaboration", message["primary_agent"], message["secondary_agent"]]
    elif kind == "session_state":
        state = message["state"]
        yield ["state", message["session_id"], state["current_phase"], state["overall_progress"]]
    elif kind == "session_logs":
        for line in message["logs"]:
            yield ["log", message["session_id"], line["level"], line["message"]]
    elif kind == "error":
        yield ["error", message["code"]]


async def main(url, client):
    opened = False
    async with websockets.connect(f"{url}/ws/agent-tracking/{client}") as socket:
        async for text in socket:
            message = json.loads(text)
            if message["type"] == "ping":
                await socket.send(json.dumps({"type": "pong"}))
            for words in show(message):
                print(*words, flush=True)
            if message["type"] == "active_sessions" and not opened:
                opened = any(one["session_id"] == "s1" for one in message["data"]["sessions"])
                for kind in ["get_session_state", "get_session_logs", "start_log_streaming"] if opened else []:
                    await socket.send(json.dumps({"type": kind, "session_id": "s1"}))


asyncio.run(main(*sys.argv[1:]))
