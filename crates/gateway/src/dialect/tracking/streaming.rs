//! The streamed log of one session: first the stored lines, then the new ones, without gaps or repeats.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use crewcast_events::{Channel, Event, EventId, Since};

use super::answers;
use crate::{dialect::Actions, hub::Entry, replay::lines_of};

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
    /// The lines that live events brought so far are to be sent too.
    wants_live: bool,
    /// Those lines are being read.
    reads_live: Option<ReadsLive>,
    /// Live events that were passed on meanwhile: the answer may hold their lines too.
    meanwhile: Vec<Bytes>,
}

/// What is known of the session's owner while the lines of live events are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadsLive {
    /// The session is granted.
    Granted,
    /// It has no owner yet. Streaming waits for its first event, but a misspelled id is reported.
    Pending,
    /// It is not granted. Streaming ends unless live events of the org have told of the session.
    Denied,
}

#[derive(Default)]
struct LastChange(Option<Arc<Entry>>);

impl Streaming {
    /// Starts at the beginning of the session's log. `wants_live`: at the lines that live events brought, too.
    pub(crate) fn new(channel: Channel, wants_live: bool) -> Self {
        let backlog = Some(LastChange::default());
        Self { channel, lines: Vec::new(), bytes: 0, backlog, wants_live, reads_live: None, meanwhile: Vec::new() }
    }

    /// Whether the lines that live events brought are still to be sent.
    pub(crate) fn wants_live(&self) -> bool {
        self.wants_live
    }

    /// The lines that live events brought are being read.
    pub(crate) fn read_live(&mut self, reads: ReadsLive) {
        self.reads_live = Some(reads);
    }

    /// Those lines were read. Returns what to send of them, and what was known of the session's owner.
    pub(crate) fn take_live(&mut self, lines: &[String]) -> Option<(Vec<String>, ReadsLive)> {
        let reads = self.reads_live.take()?;
        let sent: HashSet<String> = lines_of(&std::mem::take(&mut self.meanwhile)).into_iter().collect();
        let is_wanted = std::mem::take(&mut self.wants_live);
        Some((lines.iter().filter(|line| is_wanted && !sent.contains(*line)).cloned().collect(), reads))
    }

    fn note(&mut self, event: &Event) {
        if self.reads_live.is_some() && event.id().is_none() && self.meanwhile.len() < LINES {
            self.meanwhile.push(event.raw().clone());
        }
    }

    /// The next entry of the session's channel.
    pub(crate) fn take(&mut self, entry: &Arc<Entry>, out: &mut Actions) {
        let Some(event) = entry.event() else { return };
        self.note(event);
        match &*event.kind() {
            super::LINE => {
                self.lines.push(entry.clone());
                self.bytes += event.raw().len();
                if self.lines.len() >= LINES || self.bytes >= BYTES {
                    self.flush(out);
                }
            }
            "session_logs" => {
                self.flush(out);
                out.push(answers::event(event, entry));
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

    /// An event of the org's channel tells of the session.
    pub(crate) fn take_of_org(&mut self, entry: &Arc<Entry>, out: &mut Actions) {
        let Some(event) = entry.event() else { return };
        self.note(event);
        self.flush(out);
        out.push(match &*event.kind() {
            super::LINE => answers::streamed(self.channel.id(), std::slice::from_ref(entry)),
            _ => answers::event(event, entry),
        });
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

/// How far a socket has been sent the log of the session whose log it requested last. Streaming continues there.
#[derive(Default)]
pub(crate) struct SentLines {
    session: Option<Channel>,
    until: Option<EventId>,
    /// Requests for the log that are not answered yet.
    asked: u32,
    /// Streaming starts after the last answer.
    starts: bool,
}

impl SentLines {
    /// The session's log is requested.
    pub(crate) fn asked(&mut self, session: &Channel) {
        if !self.is_of(session) {
            *self = Self { session: Some(session.clone()), ..Self::default() };
        }
        self.asked += 1;
    }

    /// A request for the log was answered up to `head`. Returns where to start streaming, if that waits for it.
    pub(crate) fn answered(&mut self, session: &Channel, head: Option<EventId>) -> Option<Since> {
        if !self.is_of(session) {
            return None;
        }
        self.asked = self.asked.saturating_sub(1);
        self.until = head.or(self.until);
        let starts = self.asked == 0 && std::mem::take(&mut self.starts);
        starts.then(|| self.since())
    }

    /// Where to start streaming; `None`: only after the answer to a request for the log.
    pub(crate) fn start(&mut self, session: &Channel) -> Option<Since> {
        if !self.is_of(session) {
            return Some(Since::Beginning);
        }
        self.starts = self.asked > 0;
        (!self.starts).then(|| self.since())
    }

    /// Whether a request for the session's log is not answered yet.
    pub(crate) fn is_asked(&self, session: &Channel) -> bool {
        self.is_of(session) && self.asked > 0
    }

    /// Nothing is streamed any more.
    pub(crate) fn stop(&mut self) {
        self.starts = false;
    }

    /// The event was passed on while streaming.
    pub(crate) fn streamed(&mut self, session: &Channel, id: Option<EventId>) {
        if self.is_of(session) && id.is_some() {
            self.until = id;
        }
    }

    fn since(&self) -> Since {
        self.until.map_or(Since::Beginning, Since::After)
    }

    /// Whether the session's log was requested on this socket.
    pub(crate) fn is_of(&self, session: &Channel) -> bool {
        self.session.as_ref() == Some(session)
    }
}
