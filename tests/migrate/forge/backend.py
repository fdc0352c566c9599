"""A forge's back end: agents, tasks, knowledge and metrics, each event with `redis.publish`."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parents[1]))
from story import play


def event(channel, kind, **data):
    return f"{channel}:default", {"type": kind, "data": data, "timestamp": "2026-03-01T12:00:00Z"}


play(
    idle=[
        event("agents", "status_changed", agent_id="idle", old_status="idle", new_status="idle"),
        event("tasks", "task_progress", task_id="idle", percentage=0.0, message=""),
        event("knowledge", "node_added", node_id="idle", label="idle", counts={"nodes": 1, "edges": 0}),
    ],
    story=[
        event("agents", "agent_created", agent_id="a1", name="Researcher", type="worker", status="idle", metadata={}),
        event("agents", "status_changed", agent_id="a1", old_status="idle", new_status="busy"),
        event("tasks", "task_started", task_id="t1", name="read", agent_id="a1"),
        event("tasks", "task_progress", task_id="t1", name="read", agent_id="a1", percentage=50.0, message="page 2"),
        event("knowledge", "node_added", node_id="n1", label="birds", counts={"nodes": 2, "edges": 0}),
        event("knowledge", "edge_added", source="n1", target="idle", relation="is", counts={"nodes": 2, "edges": 1}),
        event("tasks", "task_failed", task_id="t2", name="write", agent_id="a1", error="no disk", duration_ms=3),
        event("tasks", "task_completed", task_id="t1", name="read", agent_id="a1", duration_ms=12, result="two pages"),
        event("metrics", "system_metrics", cpu_percent=13.0, memory_percent=40.0),
        event("metrics", "gpu_metrics", load=0.5),
        event("agents", "agent_deleted", agent_id="a2", reason="done"),
    ],
)
