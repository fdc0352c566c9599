"""A panel with the callbacks of the library `websocket-client`: agents and tasks by status.

panel.py <gateway>: prints each change as a line.
"""

import json
import sys
import threading

import websocket

url = sys.argv[1]


def follow(endpoint, key):
    def on_message(_socket, text):
        message = json.loads(text)
        if message["type"] == "pong":
            sys.stdout.write(f"pong {endpoint}\n")
        elif key in message.get("data", {}):
            sys.stdout.write(f"{endpoint} {message['type']} {message['data'][key]}\n")
        sys.stdout.flush()

    socket = websocket.WebSocketApp(
        f"{url}/ws/{endpoint}", on_open=lambda socket: socket.send("ping"), on_message=on_message
    )
    threading.Thread(target=socket.run_forever).start()


follow("agents", "agent_id")
follow("tasks", "task_id")
