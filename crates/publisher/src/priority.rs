//! Which events a full queue drops first.

/// Which event a full queue drops among those of the lowest priority.
///
/// The priority comes first under both policies. Progress events (types that end in `_progress`) go first: those that
/// newer progress of the same tool call, task or execution follows, then the rest. Other events go next, and starts and
/// ends only when nothing else is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DropPolicy {
    /// Drops the oldest, which keeps the latest events.
    #[default]
    Oldest,
    /// Drops the newest, the one that was just emitted: the events before it stay without a hole.
    Newest,
}

/// How much an event matters in a full queue. The lowest is dropped first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Priority {
    /// Progress that newer progress of the same subject follows.
    OutdatedProgress,
    Progress,
    Other,
    /// A start or an end: the events between make no sense without it.
    Boundary,
}

impl Priority {
    /// The priority of an event type. `terminal` are the types that end its channel.
    pub(crate) fn of(kind: &str, terminal: &[String]) -> Self {
        let ends_in = |suffixes: &[&str]| suffixes.iter().any(|suffix| kind.ends_with(suffix));
        if ends_in(&["_progress"]) {
            Priority::Progress
        } else if ends_in(&["_start", "_started", "_created"])
            || ends_in(&["_end", "_ended", "_completed", "_failed", "_cancelled", "_deleted", "_removed"])
            || matches!(kind, "boot" | "done")
            || terminal.iter().any(|end| end == kind)
        {
            Priority::Boundary
        } else {
            Priority::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_and_ends_of_every_dialect_stay() {
        let priority = |kind| Priority::of(kind, &["over".to_owned()]);
        for kind in ["tool_progress", "task_progress", "goal_progress"] {
            assert_eq!(priority(kind), Priority::Progress, "{kind}");
        }
        for kind in ["tool_start", "tool_end", "boot", "done", "over", "execution_started", "execution_failed"] {
            assert_eq!(priority(kind), Priority::Boundary, "{kind}");
        }
        for kind in ["agent_created", "agent_deleted", "agent_removed", "task_cancelled", "learning_cycle_completed"] {
            assert_eq!(priority(kind), Priority::Boundary, "{kind}");
        }
        for kind in ["signal", "node_executed", "agent_status", "progress", "created", "system_metrics"] {
            assert_eq!(priority(kind), Priority::Other, "{kind}");
        }
    }
}
