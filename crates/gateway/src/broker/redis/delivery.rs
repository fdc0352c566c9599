//! From Redis' pushes to the sink, in order, and never from a connection that was given up.

use std::sync::Arc;

use bytes::Bytes;
use crewcast_events::{Channel, Keys};
use parking_lot::Mutex;
use redis::{PushInfo, PushKind, Value};

use super::{capture::Capture, probe::Probes};
use crate::broker::{Link, Sink};

/// The names that this replica listens to.
pub(super) struct Names {
    /// Stands before every channel's name in Redis.
    pub(super) prefix: String,
    pub(super) control: String,
    pub(super) probe: String,
}

impl Names {
    pub(super) fn new(keys: &Keys, prefix: &str, replica: &str) -> Self {
        Self { prefix: prefix.to_owned(), control: keys.control(), probe: keys.probe(replica) }
    }

    pub(super) fn of(&self, channel: &Channel) -> String {
        format!("{}{channel}", self.prefix)
    }

    /// The glob that matches every channel of a namespace.
    pub(super) fn pattern(&self, namespace: &str) -> String {
        let mut pattern = String::new();
        for c in self.prefix.chars() {
            if matches!(c, '*' | '?' | '[' | ']' | '^' | '\\') {
                pattern.push('\\');
            }
            pattern.push(c);
        }
        pattern + namespace + ":*"
    }
}

/// Takes pushes on the task that reads the connection, and calls the sink there: no queue between them can
/// grow, and a sink that were slow would slow the reading.
pub(super) struct Delivery {
    pub(super) names: Names,
    pub(super) probes: Probes,
    capture: Option<Arc<Capture>>,
    /// Held while the sink is called: pushes and changes of the link reach it one at a time.
    gate: Mutex<Gate>,
}

struct Gate {
    /// The connection whose pushes count.
    epoch: u64,
    up: bool,
    sink: Option<Arc<dyn Sink>>,
}

impl Delivery {
    pub(super) fn new(names: Names, capture: Option<Arc<Capture>>) -> Self {
        let gate = Gate { epoch: 0, up: false, sink: None };
        Self { names, probes: Probes::default(), capture, gate: Mutex::new(gate) }
    }

    pub(super) fn set_sink(&self, sink: Arc<dyn Sink>) {
        self.gate.lock().sink = Some(sink);
    }

    /// A new connection is about to be made: pushes of former ones no longer count.
    pub(super) fn open(&self) -> u64 {
        let mut gate = self.gate.lock();
        gate.epoch += 1;
        gate.epoch
    }

    /// Everything that is wanted has been confirmed.
    pub(super) fn up(&self) {
        let mut gate = self.gate.lock();
        gate.up = true;
        if let Some(sink) = &gate.sink {
            sink.link(Link::Up);
        }
    }

    /// The connection is given up. Answers whether it had been up.
    pub(super) fn down(&self) -> bool {
        let mut gate = self.gate.lock();
        gate.epoch += 1;
        let was_up = std::mem::replace(&mut gate.up, false);
        if let Some(sink) = gate.sink.as_ref().filter(|_| was_up) {
            sink.link(Link::Down);
        }
        was_up
    }

    /// Nothing is delivered any more.
    pub(super) fn close(&self) {
        let mut gate = self.gate.lock();
        gate.epoch += 1;
        gate.sink = None;
    }

    /// One push of the connection that was opened as `epoch`.
    pub(super) fn push(&self, epoch: u64, push: PushInfo) {
        let mut data = push.data.into_iter();
        let by_pattern = match push.kind {
            PushKind::Message => false,
            PushKind::PMessage => data.next().is_some(),
            _ => return,
        };
        let (Some(Value::BulkString(name)), Some(Value::BulkString(payload))) = (data.next(), data.next()) else {
            return;
        };
        // The names that are subscribed are ASCII; a pattern may match others, which are no channels.
        let Ok(name) = std::str::from_utf8(&name) else { return };
        let payload = Bytes::from(payload);
        let gate = self.gate.lock();
        let Some(sink) = gate.sink.as_ref().filter(|_| gate.epoch == epoch) else { return };
        if by_pattern {
            self.capture(name, payload);
        } else if name == self.names.control {
            sink.control(payload);
        } else if name == self.names.probe {
            self.probes.came_back(&payload);
        } else if let Some(channel) = name.strip_prefix(&self.names.prefix) {
            sink.message(channel, payload);
        }
    }

    fn capture(&self, name: &str, payload: Bytes) {
        let channel = name.strip_prefix(&self.names.prefix).and_then(|name| name.parse().ok());
        if let (Some(capture), Some(channel)) = (&self.capture, channel) {
            capture.heard(channel, payload);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::conformance::TestSink;

    fn message(name: &str, payload: &'static [u8]) -> PushInfo {
        let bulk = |bytes: &[u8]| Value::BulkString(bytes.to_vec());
        PushInfo { kind: PushKind::Message, data: vec![bulk(name.as_bytes()), bulk(payload)] }
    }

    #[test]
    fn a_connection_that_was_given_up_is_not_heard() {
        let delivery = Delivery::new(Names::new(&Keys::default(), "p.", "r"), None);
        let sink = Arc::new(TestSink::default());
        delivery.set_sink(sink.clone());
        let old = delivery.open();
        delivery.up();
        delivery.push(old, message("p.run:r1", b"1"));
        delivery.down();
        delivery.push(old, message("p.run:r1", b"2"));
        let new = delivery.open();
        delivery.up();
        delivery.push(old, message("p.run:r1", b"3"));
        delivery.push(new, message("p.run:r1", b"4"));
        delivery.push(new, message("elsewhere:r1", b"5"));
        delivery.close();
        delivery.push(new, message("p.run:r1", b"6"));
        assert_eq!(sink.of("run:r1"), [&b"1"[..], b"4"]);
        assert_eq!(sink.links(), [Link::Up, Link::Down, Link::Up]);
        assert_eq!(sink.count(), 2);
    }

    #[test]
    fn a_prefix_is_no_glob() {
        let names = Names::new(&Keys::default(), "a*[b]", "r");
        assert_eq!(names.pattern("mission"), r"a\*\[b\]mission:*");
    }
}
