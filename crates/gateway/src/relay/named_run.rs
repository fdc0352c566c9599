//! Which run the events of a crew name: reported to the adoption, and not again for each event.

use std::time::Duration;

use crewcast_events::{Event, Field};
use tokio::time::Instant;

/// How long a run that was reported is not reported again.
const AGAIN: Duration = Duration::from_secs(5);

/// The run that an event of a crew named last.
#[derive(Default)]
pub(super) struct NamedRun {
    run: String,
    reported_at: Option<Instant>,
}

impl NamedRun {
    /// The run that an event names, unless it was reported a moment ago.
    pub(super) fn take_new(&mut self, event: &Event, now: Instant) -> Option<&str> {
        let run = event.field(Field::RunId)?;
        if self.run == run && self.reported_at.is_some_and(|at| now < at + AGAIN) {
            return None;
        }
        *self = Self { run: run.into_owned(), reported_at: Some(now) };
        Some(&self.run)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_run_is_reported_once_in_a_while() {
        let event = |text: &'static str| Event::parse(Bytes::from_static(text.as_bytes())).unwrap();
        let (first, second) = (event(r#"{"type":"x","run_id":"r1"}"#), event(r#"{"type":"x","run_id":"r2"}"#));
        let (mut named, now) = (NamedRun::default(), Instant::now());
        assert_eq!(named.take_new(&event(r#"{"type":"x","data":{"run_id":"r1"}}"#), now), None);
        assert_eq!(named.take_new(&first, now), Some("r1"));
        assert_eq!(named.take_new(&first, now), None);
        assert_eq!(named.take_new(&second, now), Some("r2"));
        assert_eq!(named.take_new(&second, now + AGAIN), Some("r2"));
    }
}
