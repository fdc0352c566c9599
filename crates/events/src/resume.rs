//! The resume rule: whether a reader at a given id can go on without a gap. Replay and backfill share it.

use std::convert::Infallible;
use std::str::FromStr;

use crate::EventId;

/// The position that a client asks to resume from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Since {
    /// `0`: everything that the log holds.
    Beginning,
    /// After the last id that the client saw.
    After(EventId),
    /// A text that is not an id. Gateways answer it with `reset`, never with an error.
    Unknown,
}

impl FromStr for Since {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "0" => Since::Beginning,
            id => id.parse().map_or(Since::Unknown, Since::After),
        })
    }
}

/// Why the log does not continue a reader's position.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ResetReason {
    /// The log no longer reaches back to the position.
    Trimmed,
    /// The log never held the id, or holds another event in its place.
    UnknownId,
}

impl ResetReason {
    /// The value of `reason` in the `reset` message and in `crewcast_resets_total`.
    pub fn label(self) -> &'static str {
        match self {
            ResetReason::Trimmed => "trimmed",
            ResetReason::UnknownId => "unknown_id",
        }
    }
}

/// How a reader goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resumed {
    /// With the event right after its position: nothing was missed.
    Gapless,
    /// With everything that the log holds, after a `reset`.
    Reset(ResetReason),
}

/// Decides how a reader at `since` goes on.
///
/// - `at`: the log's entry at the offset of `since`, if the log holds one.
/// - `first`: the log's first entry.
/// - `head`: the last id given in the channel. It outlives the log.
pub fn resume(since: Since, at: Option<EventId>, first: Option<EventId>, head: Option<EventId>) -> Resumed {
    let position = match since {
        Since::Unknown => return Resumed::Reset(ResetReason::UnknownId),
        Since::Beginning => None,
        Since::After(id) => Some(id),
    };
    let held = position.is_some() && at == position;
    let continued = first.is_some_and(|first| first.continues(position));
    let nothing_missed = first.is_none() && head == position;
    if held || continued || nothing_missed || (position.is_some() && head == position) {
        return Resumed::Gapless;
    }
    let offset = position.map_or(0, |id| id.offset());
    let trimmed = match (first, head) {
        (Some(first), _) => first.offset() > offset + 1,
        (None, Some(head)) => head.offset() > offset,
        (None, None) => false,
    };
    Resumed::Reset(if trimmed { ResetReason::Trimmed } else { ResetReason::UnknownId })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(n: usize) -> Vec<EventId> {
        let mut ids: Vec<EventId> = Vec::new();
        for i in 0..n {
            ids.push(EventId::after(ids.last().copied(), format!("{i:06}").as_bytes().try_into().unwrap()));
        }
        ids
    }

    #[test]
    fn decides_gapless_trimmed_or_unknown() {
        let ids = chain(10);
        let other = EventId::after(Some(ids[3]), *b"zzzzzz");
        let (first, head) = (Some(ids[4]), Some(ids[9]));
        let trimmed = Resumed::Reset(ResetReason::Trimmed);
        let unknown = Resumed::Reset(ResetReason::UnknownId);
        // In the log; continued by the first entry; the head itself.
        assert_eq!(resume(Since::After(ids[6]), Some(ids[6]), first, head), Resumed::Gapless);
        assert_eq!(resume(Since::After(ids[3]), None, first, head), Resumed::Gapless);
        assert_eq!(resume(Since::After(ids[9]), None, None, head), Resumed::Gapless);
        // Trimmed from the log; the whole log has expired.
        assert_eq!(resume(Since::After(ids[2]), None, first, head), trimmed);
        assert_eq!(resume(Since::After(ids[2]), None, None, head), trimmed);
        // Another history; an id from the future; no history; not an id.
        assert_eq!(resume(Since::After(other), Some(ids[4]), first, head), unknown);
        assert_eq!(resume(Since::After(ids[9]), None, Some(ids[4]), Some(ids[5])), unknown);
        assert_eq!(resume(Since::After(ids[9]), None, None, None), unknown);
        assert_eq!(resume(Since::Unknown, None, None, None), unknown);
        // From the beginning.
        assert_eq!(resume(Since::Beginning, None, Some(ids[0]), head), Resumed::Gapless);
        assert_eq!(resume(Since::Beginning, None, None, None), Resumed::Gapless);
        assert_eq!(resume(Since::Beginning, None, first, head), trimmed);
        assert_eq!(resume(Since::Beginning, None, None, head), trimmed);
    }
}
