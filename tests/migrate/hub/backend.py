"""A hive's back end: agents, tasks and the system, each event with `redis.publish`."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parents[1]))
from story import play

NOW = "2026-03-01T12:00:00Z"


def event(kind, **data):
    return "hub:default", {"type": kind, "data": {**data, "timestamp": NOW}, "timestamp": NOW}


def status(hive, **metrics):
    return event("hive_status_update", status=hive, metrics=metrics, alerts=[])


play(
    idle=[status("idle", total_agents=0)],
    story=[
        event("agent_created", agent={"id": "a1", "name": "Researcher", "type": "worker", "capabilities": []}),
        event("task_created", task={"id": "t1", "description": "read", "priority": 1}, matching_agents=["a1"]),
        event("task_assigned", task_id="t1", agent_id="a1", assignment_reason="free", estimated_completion=NOW),
        event("task_started", task_id="t1", agent_id="a1", attempt_number=1),
        event("task_progress", task_id="t1", agent_id="a1", progress=0.25, current_step="page 1"),
        event("task_progress", task_id="t1", agent_id="a1", progress=0.75, current_step="page 2"),
        event("task_completed", task_id="t1", agent_id="a1", execution_time_ms=12, result={"pages": 2}),
        event("system_alert", level="warning", title="memory", message="80 % used", details={}),
        event("error_occurred", error_id="x1", component="reader", error={"code": "E1"}, severity="low"),
    ],
)
