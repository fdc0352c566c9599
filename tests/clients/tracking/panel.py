"""A panel written with the callbacks of the library `websocket-client`: follows the log of one session.

panel.py <url> <token> <session> <lines>: prints each message as a line until this many lines of the log have come.
"""

import json
import sys

import websocket

url, token, session, lines = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])


def on_open(socket):
    socket.send(json.dumps({"type": "get_session_state", "session_id": session}))


def on_message(socket, text):
    global lines
    message = json.loads(text)
    kind = message["type"]
    if kind == "ping":
        socket.send(json.dumps({"type": "pong"}))
    elif kind == "active_sessions":
        data = message["data"]
        print("active", data["total_sessions"], *[entry["session_id"] for entry in data["sessions"]], flush=True)
    elif kind == "session_state":
        state = message["state"]
        print("state", state["current_phase"], state["overall_progress"], flush=True)
        if lines and not getattr(socket, "follows", False):
            socket.follows = True
            socket.send(json.dumps({"type": "start_log_streaming", "session_id": session}))
    elif kind == "session_logs":
        for line in message["logs"]:
            print("log", line["level"], line["agent"], line["message"], flush=True)
            lines -= 1
        if lines <= 0:
            socket.send(json.dumps({"type": "stop_log_streaming"}))
            socket.close()
    elif kind == "agent_status":
        print("agent", message["agent_name"], message["status"], message["progress"], flush=True)
    elif kind == "error":
        print("error", message["code"], flush=True)
        socket.close()


def on_error(socket, error):
    print("failed", error, flush=True)
    sys.exit(1)


websocket.WebSocketApp(
    url,
    header=[f"Authorization: Bearer {token}"],
    on_open=on_open,
    on_message=on_message,
    on_error=on_error,
).run_forever()
