//! A sink that records what it receives.

use bytes::Bytes;
use crewcast_events::Channel;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::DEADLINE;
use crate::broker::{Link, Sink};

/// Everything that a broker delivered, in order.
#[derive(Default)]
pub(in crate::broker) struct TestSink {
    messages: Mutex<Vec<(String, Bytes)>>,
    controls: Mutex<Vec<Bytes>>,
    links: Mutex<Vec<Link>>,
    missed: Mutex<Vec<Channel>>,
    changed: Notify,
}

impl Sink for TestSink {
    fn message(&self, channel: &str, payload: Bytes) {
        self.messages.lock().push((channel.to_owned(), payload));
        self.changed.notify_waiters();
    }

    fn control(&self, payload: Bytes) {
        self.controls.lock().push(payload);
        self.changed.notify_waiters();
    }

    fn link(&self, link: Link) {
        self.links.lock().push(link);
        self.changed.notify_waiters();
    }

    fn missed(&self, channels: &[Channel]) {
        self.missed.lock().extend_from_slice(channels);
        self.changed.notify_waiters();
    }
}

impl TestSink {
    /// The payloads of one channel up to now.
    pub(in crate::broker) fn of(&self, channel: &str) -> Vec<Bytes> {
        let messages = self.messages.lock();
        messages.iter().filter(|(name, _)| name == channel).map(|(_, payload)| payload.clone()).collect()
    }

    pub(in crate::broker) fn count(&self) -> usize {
        self.messages.lock().len()
    }

    pub(in crate::broker) fn controls(&self) -> Vec<Bytes> {
        self.controls.lock().clone()
    }

    pub(in crate::broker) fn links(&self) -> Vec<Link> {
        self.links.lock().clone()
    }

    /// The channels that may have missed messages.
    pub(in crate::broker) fn missed_channels(&self) -> Vec<Channel> {
        self.missed.lock().clone()
    }

    pub(in crate::broker) fn clear(&self) {
        self.messages.lock().clear();
    }

    /// Waits until the condition holds. The condition is checked again after each delivery.
    pub(in crate::broker) async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let waiting = async {
            loop {
                let notified = self.changed.notified();
                tokio::pin!(notified);
                // Registered before the condition is checked, so that no delivery is missed in between.
                notified.as_mut().enable();
                if condition(self) {
                    return;
                }
                notified.await;
            }
        };
        if tokio::time::timeout(DEADLINE, waiting).await.is_err() {
            panic!("not within {DEADLINE:?}: {what}; {} messages, links {:?}", self.count(), self.links());
        }
    }

    /// Waits for `count` messages of a channel and returns them.
    pub(in crate::broker) async fn messages(&self, channel: &str, count: usize) -> Vec<Bytes> {
        self.until(&format!("{count} messages of {channel}"), |sink| sink.of(channel).len() >= count).await;
        self.of(channel)
    }
}
