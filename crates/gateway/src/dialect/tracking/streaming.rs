//! The log of one session while it is streamed: what the log holds, then what comes, without a hole or a repeat.

use std::sync::Arc;

use crewcast_events::Channel;

use super::answers;
use crate::{dialect::Actions, hub::Entry};

/// Most lines of one message.
const LINES: usize = 500;
/// Most bytes of them, but for the last.
const BYTES: usize = 64 << 10;

/// The session whose log is streamed.
pub struct Streaming {
    /// `session:<id>`.
    pub channel: Channel,
    /// Lines that go out together.
    lines: Vec<Arc<Entry>>,
    bytes: usize,
    /// Until the log is read: the last change of the state that it tells. What came before is no news.
    backlog: Option<LastChange>,
}

#[derive(Default)]
struct LastChange(Option<Arc<Entry>>);

impl Streaming {
    /// From the beginning of the session's log.
    pub fn new(channel: Channel) -> Self {
        Self { channel, lines: Vec::new(), bytes: 0, backlog: Some(LastChange::default()) }
    }

    /// The next entry of the session's channel.
    pub fn take(&mut self, entry: &Arc<Entry>, out: &mut Actions) {
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

    /// There is nothing more for now.
    pub fn caught_up(&mut self, out: &mut Actions) {
        self.flush(out);
        if let Some(LastChange(Some(entry))) = self.backlog.take() {
            out.extend(answers::state_changed(self.channel.id(), &entry));
        }
    }

    /// Sends the lines that have gathered.
    pub fn flush(&mut self, out: &mut Actions) {
        if !self.lines.is_empty() {
            out.push(answers::streamed(self.channel.id(), &self.lines));
            (self.lines, self.bytes) = (Vec::new(), 0);
        }
    }
}
