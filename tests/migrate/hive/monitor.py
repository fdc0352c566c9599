"""A monitor with the callbacks of the library `websocket-client`: alerts on failures and violated constraints.

monitor.py <gateway> <token>: prints each alert as a line.
"""

import json
import sys

import websocket

url, token = sys.argv[1:]


def on_open(socket):
    socket.send(json.dumps({"action": "auth", "token": token}))
    alarming = ["EXECUTION_FAILED", "CONSTRAINT_VIOLATION"]
    socket.send(json.dumps({"action": "subscribe", "event_types": alarming}))


def on_message(_socket, text):
    message = json.loads(text)
    if message["type"] == "event":
        event = message["event"]
        detail = event["data"].get("error") or event["data"].get("message")
        print("alert", message["channel"], event["type"], detail, flush=True)


def on_close(_socket, code, reason):
    print("closed", code, reason, flush=True)


websocket.WebSocketApp(f"{url}/ws/stream", on_open=on_open, on_message=on_message, on_close=on_close).run_forever()
