"""A hive's back end: the executions of two agents, each event with `redis.publish`."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parents[1]))
from story import play


def event(stream, kind, execution="e1", **data):
    fields = {"stream_id": stream, "execution_id": execution, "timestamp": "2026-03-01T12:00:00Z"}
    return f"stream:{stream}", {"type": kind, **fields, "data": data}


play(
    idle=[
        event("writer", "execution_started", "idle"),
        event("writer", "execution_failed", "idle", error="idle"),
        event("reviewer", "execution_started", "idle"),
    ],
    story=[
        event("writer", "execution_started", input_data={"topic": "birds"}),
        event("writer", "node_executed", node_id="n1", duration_ms=12, output="a draft"),
        event("writer", "goal_progress", progress=0.5, criteria_status={}),
        event("reviewer", "constraint_violation", constraint="budget", message="over budget"),
        event("reviewer", "execution_failed", error="no disk"),
        event("writer", "execution_completed", output="a text"),
    ],
)
