//! The streamed log of one session: first the stored lines, then the new ones, without gaps or repeats.

use std::sync::Arc;

use crewcast_events::Channel;

use super::answers;
use crate::{dialect::Actions, hub::Entry};

/// Most lines of one message.
const LINES: usize = 500;
/// Most bytes of these lines; the last line may exceed it.
const BYTES: usize = 64 << 10;

/// The session that is streamed.
pub(crate) struct Streaming {
    /// `session:<id>`.
    pub channel: Channel,
    /// Lines that go out together.
    lines: Vec<Arc<Entry>>,
    bytes: usize,
    /// `Some` while the stored log is read: the last state change in it. Earlier changes are superseded.
    backlog: Option<LastChange>,
}

#[derive(Default)]
struct LastChange(Option<Arc<Entry>>);

impl Streaming {
    /// Starts at the beginning of the session's log.
    pub(crate) fn new(channel: Channel) -> Self {
        Self { channel, lines: Vec::new(), bytes: 0, backlog: Some(LastChange::default()) }
    }

    /// The next entry of the session's channel.
    pub(crate) fn take(&mut self, entry: &Arc<Entry>, out: &mut Actions) {
        let Some(event) = entry.event() else { return };
        match &*event.kind() {
            super::LINE => {
                self.lines.push(entry.clone());
                self.bytes += event.raw().len();
                if self.lines.len() >= LINES || self.bytes >= BYTES {
                    self.flush(out);
                }
            }
            "session_state" => match &mut self.backlog {
                Some(last) => last.0 = Some(entry.clone()),
                None => {
                    self.flush(out);
                    out.extend(answers::state_changed(self.channel.id(), entry));
                }
            },
            _ => {}
        }
    }

    /// All available entries were read.
    pub(crate) fn caught_up(&mut self, out: &mut Actions) {
        self.flush(out);
        if let Some(LastChange(Some(entry))) = self.backlog.take() {
            out.extend(answers::state_changed(self.channel.id(), &entry));
        }
    }

    /// Sends the collected lines.
    pub(crate) fn flush(&mut self, out: &mut Actions) {
        if !self.lines.is_empty() {
            out.push(answers::streamed(self.channel.id(), &self.lines));
            (self.lines, self.bytes) = (Vec::new(), 0);
        }
    }
}
