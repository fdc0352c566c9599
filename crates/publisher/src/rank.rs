//! What gives way in a full queue.

/// Which event gives way when the queue is full, among those that matter least.
///
/// What matters least goes first, whatever the policy: progress (types that end in `_progress`), then
/// everything else, and only when nothing else is left starts and ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DropPolicy {
    /// The oldest: what is sent in the end is the latest.
    #[default]
    Oldest,
    /// The newest, which is the one that was just emitted: what is sent in the end has no hole before it.
    Newest,
}

/// How much an event matters in a full queue. The order is that of giving way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Rank {
    Progress,
    Other,
    /// A start or an end: without it everything between makes no sense.
    Boundary,
}

impl Rank {
    /// The rank of an event type; `terminal` are the types that end its channel.
    pub(crate) fn of(kind: &str, terminal: &[String]) -> Self {
        let ends_in = |suffixes: &[&str]| suffixes.iter().any(|suffix| kind.ends_with(suffix));
        if ends_in(&["_progress"]) {
            Rank::Progress
        } else if ends_in(&["_start", "_started", "_created"])
            || ends_in(&["_end", "_ended", "_completed", "_failed", "_cancelled", "_deleted", "_removed"])
            || matches!(kind, "boot" | "done")
            || terminal.iter().any(|end| end == kind)
        {
            Rank::Boundary
        } else {
            Rank::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_and_ends_of_every_dialect_stay() {
        let rank = |kind| Rank::of(kind, &["over".to_owned()]);
        for kind in ["tool_progress", "task_progress", "goal_progress"] {
            assert_eq!(rank(kind), Rank::Progress, "{kind}");
        }
        for kind in ["tool_start", "tool_end", "boot", "done", "over", "execution_started", "execution_failed"] {
            assert_eq!(rank(kind), Rank::Boundary, "{kind}");
        }
        for kind in ["agent_created", "agent_deleted", "agent_removed", "task_cancelled", "learning_cycle_completed"] {
            assert_eq!(rank(kind), Rank::Boundary, "{kind}");
        }
        for kind in ["signal", "node_executed", "agent_status", "progress", "created", "system_metrics"] {
            assert_eq!(rank(kind), Rank::Other, "{kind}");
        }
    }
}
