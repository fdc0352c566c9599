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
        } else if ends_in(&["_start", "_started", "_end", "_ended", "_completed", "_failed"])
            || matches!(kind, "boot" | "done")
            || terminal.iter().any(|end| end == kind)
        {
            Rank::Boundary
        } else {
            Rank::Other
        }
    }
}
