"""A panel with the callbacks of the library `websocket-client`: missions, tools and one run, each on its own thread.

panel.py <gateway> <token>: prints each event as a line.
"""

import json
import sys
import threading

import websocket

url, token = sys.argv[1:]


def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def mission(event):
    say("mission", event["payload"]["crewId"], event["payload"]["status"])


def follow(path, show, on_close=None):
    def on_message(socket, text):
        event = json.loads(text)
        if event["type"] == "ping":
            socket.send(json.dumps({"type": "pong"}))
        else:
            show(event)

    socket = websocket.WebSocketApp(
        f"{url}{path}", subprotocols=["token", token], on_message=on_message, on_close=on_close
    )
    threading.Thread(target=socket.run_forever).start()


def run_closed(_socket, code, reason):
    say("state completed" if code == 1000 else f"state refused: {code} {reason}")


follow("/ws/mission", mission)
follow("/ws/graph?crew_id=abc", lambda event: say("graph", event["type"], event.get("tool")))
follow("/ws/runs/r1", lambda event: say("run", event["type"]), run_closed)
