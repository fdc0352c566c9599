"""A crew's back end: status, tool calls and the life of a run, each with `redis.publish`."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parents[1]))
from story import play

NOW = "2026-03-01T12:00:00Z"


def signal(status):
    return "mission:abc", {"type": "signal", "timestamp": NOW, "payload": {"status": status, "crewId": "abc"}}


def tool(kind, **fields):
    event = {"type": kind, "timestamp": NOW, "crew_id": "abc", "run_id": "r1", "agent_id": "a1", "tool": "search"}
    return "graph:abc", event | fields


def run(kind, **fields):
    return "run:r1", {"type": kind, "timestamp": NOW, "run_id": "r1", "crew_id": "abc"} | fields


play(
    idle=[signal("available"), tool("idle"), run("idle")],
    story=[
        signal("busy"),
        run("boot", inputs={"topic": "birds"}),
        run("agent_start", agent_id="a1", agent="Researcher"),
        tool("tool_start", params={"query": "birds"}),
        tool("tool_progress", message="page 2", progress=0.5),
        tool("tool_end", duration_s=1.5, exit_code=0, status="success"),
        run("agent_end", agent_id="a1", agent="Researcher", status="success", duration_s=2.0),
        run("error", message="one source is down", fatal=False),
        run("done", status="success", duration_s=2.5, output="a report"),
        signal("offline"),
    ],
)
