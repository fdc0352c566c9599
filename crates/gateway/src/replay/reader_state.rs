//! Where a reader is: opening, in the log, or in the ring.

use crewcast_events::{EventId, Since};

use super::Start;

pub(super) enum ReaderState {
    /// The channel is not open yet.
    Opening(Box<OpeningState>),
    /// Reading the log behind the position, until the reader can enter the ring. Boxed: most readers are in the ring.
    Log(Box<LogState>),
    /// Reading the ring.
    Ring { next: i64 },
}

#[derive(Clone, Copy)]
pub(super) struct OpeningState {
    pub(super) start: Start,
    pub(super) origin: Origin,
}

/// Where a reader's channel begins for it, beside what the log holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// When the reader opens.
    Now,
    /// When its subscription began.
    Join,
    /// A moment before: its id got its owner meanwhile.
    Recent,
    /// With the first event that the ring of a new channel holds.
    First,
}

#[derive(Clone, Copy)]
pub(super) struct LogState {
    pub(super) since: Since,
    pub(super) target: RingTarget,
    pub(super) page: PageRequest,
}

impl ReaderState {
    pub(super) fn log(since: Since, target: RingTarget, page: PageRequest) -> Self {
        Self::Log(Box::new(LogState { since, target, page }))
    }
}

/// The next page of a reader in the log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PageRequest {
    /// The first page: the same read serves other readers that resume at that moment.
    First,
    /// The page behind the previous one.
    Next,
    /// Already requested.
    Asked,
}

/// Where in the ring a reader continues once it has caught up.
#[derive(Clone, Copy, Debug)]
pub(super) struct RingTarget {
    pub(super) next: i64,
    pub(super) position: Option<EventId>,
}
