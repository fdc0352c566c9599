//! From Redis' pushes to the sink, in order, and never from a connection that was given up.

use std::sync::Arc;

use bytes::Bytes;
use crewcast_events::{Channel, Keys};
use crewcast_store::{Node, slot_of};
use parking_lot::Mutex;
use redis::{PushInfo, PushKind, Value};

use super::{live_retention::Capture, probe::Probes};
use crate::broker::{Link, Sink};

/// The names that this replica subscribes to.
pub(super) struct Names {
    /// Precedes every channel's name in Redis.
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

    /// The Cluster slot of a channel's keys, and of its name if there is no prefix.
    pub(super) fn slot_of(&self, channel: &Channel) -> u16 {
        slot_of(channel.as_str().as_bytes())
    }

    /// A name for the replica's probe whose slot is on this server.
    pub(super) fn probe_at(&self, node: &Node) -> String {
        let names = std::iter::once(self.probe.clone()).chain((0..u16::MAX).map(|n| format!("{}:{n}", self.probe)));
        let mut here = names.filter(|name| node.holds(slot_of(name.as_bytes())));
        here.next().unwrap_or_else(|| self.probe.clone())
    }

    fn is_probe(&self, name: &str) -> bool {
        name.strip_prefix(&self.probe).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
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

/// Takes pushes on the task that reads the connection, and calls the sink there: no queue in between can grow, and a
/// slow sink would slow down the reading.
pub(super) struct Delivery {
    pub(super) names: Names,
    pub(super) probes: Probes,
    capture: Option<Arc<Capture>>,
    /// Held while the sink is called: pushes and changes of the link reach it one at a time.
    gate: Mutex<Gate>,
}

struct Gate {
    /// The connection opened last.
    last_epoch: u64,
    /// The connections whose pushes count: one to each server.
    open: Vec<u64>,
    up: bool,
    sink: Option<Arc<dyn Sink>>,
}

/// A connection whose pushes count, until it is closed or dropped.
pub(super) struct Epoch {
    delivery: Arc<Delivery>,
    number: u64,
}

impl Epoch {
    /// Opens the epoch of a connection that is about to be made.
    pub(super) fn open(delivery: &Arc<Delivery>) -> Self {
        Self { delivery: delivery.clone(), number: delivery.open_epoch() }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn close(&self) {
        self.delivery.close_epoch(self.number);
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        self.close();
    }
}

impl Delivery {
    pub(super) fn new(names: Names, capture: Option<Arc<Capture>>) -> Self {
        let gate = Gate { last_epoch: 0, open: Vec::new(), up: false, sink: None };
        Self { names, probes: Probes::default(), capture, gate: Mutex::new(gate) }
    }

    pub(super) fn set_sink(&self, sink: Arc<dyn Sink>) {
        self.gate.lock().sink = Some(sink);
    }

    /// Counts a connection that is about to be made.
    fn open_epoch(&self) -> u64 {
        let mut gate = self.gate.lock();
        gate.last_epoch += 1;
        let epoch = gate.last_epoch;
        gate.open.push(epoch);
        epoch
    }

    /// Stops counting the pushes of a connection that is given up.
    fn close_epoch(&self, epoch: u64) {
        self.gate.lock().open.retain(|open| *open != epoch);
    }

    /// Reports that everything wanted has been confirmed.
    pub(super) fn up(&self) {
        let mut gate = self.gate.lock();
        gate.up = true;
        if let Some(sink) = &gate.sink {
            sink.link(Link::Up);
        }
    }

    /// Reports that messages of wanted channels may be lost. Returns whether the link was up until now.
    pub(super) fn down(&self) -> bool {
        let mut gate = self.gate.lock();
        let was_up = std::mem::replace(&mut gate.up, false);
        if let Some(sink) = gate.sink.as_ref().filter(|_| was_up) {
            sink.link(Link::Down);
        }
        was_up
    }

    /// Reports channels that arrive again, but may have missed messages. Not reported while the link is down: once it
    /// is up again, all channels are compared.
    pub(super) fn missed(&self, channels: &[Channel]) {
        let gate = self.gate.lock();
        if let Some(sink) = gate.sink.as_ref().filter(|_| gate.up) {
            sink.missed(channels);
        }
    }

    /// The number of connections that count.
    #[cfg(test)]
    pub(super) fn open_connections(&self) -> usize {
        self.gate.lock().open.len()
    }

    /// Stops delivery.
    pub(super) fn close(&self) {
        let mut gate = self.gate.lock();
        gate.open.clear();
        gate.sink = None;
    }

    /// Delivers one push of the connection that was opened as `epoch`.
    pub(super) fn push(&self, epoch: u64, push: PushInfo) {
        let mut data = push.data.into_iter();
        let by_pattern = match push.kind {
            PushKind::Message | PushKind::SMessage => false,
            PushKind::PMessage => data.next().is_some(),
            _ => return,
        };
        let (Some(Value::BulkString(name)), Some(Value::BulkString(payload))) = (data.next(), data.next()) else {
            return;
        };
        // Subscribed names are ASCII; a pattern may match others, which are not channels.
        let Ok(name) = std::str::from_utf8(&name) else { return };
        let payload = Bytes::from(payload);
        let gate = self.gate.lock();
        let Some(sink) = gate.sink.as_ref().filter(|_| gate.open.contains(&epoch)) else { return };
        if by_pattern {
            if let Some(channel) = name.strip_prefix(&self.names.prefix) {
                sink.overheard(channel, &payload);
            }
            self.capture(name, payload);
        } else if name == self.names.control {
            sink.control(payload);
        } else if self.names.is_probe(name) {
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
    fn pushes_of_a_connection_that_was_given_up_are_ignored() {
        let delivery = Delivery::new(Names::new(&Keys::default(), "p.", "r"), None);
        let sink = Arc::new(TestSink::default());
        delivery.set_sink(sink.clone());
        let old = delivery.open_epoch();
        delivery.up();
        delivery.push(old, message("p.run:r1", b"1"));
        delivery.down();
        delivery.close_epoch(old);
        delivery.push(old, message("p.run:r1", b"2"));
        let new = delivery.open_epoch();
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
    fn a_prefix_is_escaped_in_a_pattern() {
        let names = Names::new(&Keys::default(), "a*[b]", "r");
        assert_eq!(names.pattern("mission"), r"a\*\[b\]mission:*");
    }
}
