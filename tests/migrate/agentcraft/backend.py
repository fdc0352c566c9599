"""The back end of agents that work on sessions: every message on one channel, with `redis.publish`."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parents[1]))
from story import play

NOW = "2026-03-01T12:00:00Z"


def message(kind, **fields):
    return "tracking:default", {"type": kind, **fields, "timestamp": NOW}


def agent(name, status, progress):
    metadata = {"task_id": "t1", "estimated_completion": NOW}
    fields = {"agent_id": name.lower(), "agent_name": name, "status": status, "progress": progress}
    return message("agent_status", **fields, message="", metadata=metadata)


def sessions(*names):
    listed = [{"session_id": name, "query": "birds", "status": "running", "agents_active": 1} for name in names]
    return message("active_sessions", data={"total_sessions": len(listed), "sessions": listed})


def state(phase, progress):
    working = [{"agent_name": "Writer", "status": "PROCESSING", "progress": progress, "current_task": "t1", "details": {}}]
    document = {"session_id": "s1", "query": "birds", "current_phase": phase, "overall_progress": progress}
    return message("session_state", session_id="s1", state=document | {"active_agents": working, "crew_output": []})


def log(text):
    line = {"timestamp": NOW, "level": "INFO", "agent": "Writer", "message": text, "details": {}}
    return message("session_logs", session_id="s1", logs=[line])


play(
    idle=[agent("Clerk", "IDLE", 0), sessions("s1"), state("idle", 0), log("idle")],
    story=[
        agent("Writer", "ANALYZING", 10),
        state("analysis", 10),
        log("reads the query"),
        message("agent_collaboration", primary_agent="Writer", secondary_agent="Editor", collaboration_type="review", reason="draft"),
        agent("Writer", "PROCESSING", 60),
        log("writes a draft"),
        state("writing", 60),
        log("is done"),
        state("done", 100),
        agent("Writer", "COMPLETED", 100),
    ],
)
