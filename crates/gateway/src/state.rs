//! What stands beside a channel's log, read once for all who ask at the same time.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use crewcast_events::{Channel, EventId};
use dashmap::{DashMap, Entry};
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::broker::{Broker, BrokerError, ChannelState};

/// A channel's state documents and the id behind which they stand.
#[derive(Debug, Default)]
pub struct State {
    /// The last id given: later events are not in the documents, everything else is.
    pub head: Option<EventId>,
    /// The documents by key, in the order of the keys. What is no JSON is left out.
    pub documents: Vec<(String, Box<RawValue>)>,
    /// Whether there are more documents than are told.
    pub truncated: bool,
    frame: OnceLock<Bytes>,
}

impl State {
    /// The bytes of the message that tells the whole state, made by `encode` when nobody needed them before.
    pub fn encoded(&self, encode: impl FnOnce() -> Bytes) -> Bytes {
        self.frame.get_or_init(encode).clone()
    }

    /// The document of this key.
    pub fn document(&self, key: &str) -> Option<&RawValue> {
        let index = self.documents.binary_search_by(|(known, _)| known.as_str().cmp(key)).ok()?;
        Some(&*self.documents[index].1)
    }
}

impl From<ChannelState> for State {
    fn from(state: ChannelState) -> Self {
        let document = |(key, raw): (String, Bytes)| Some((key, serde_json::from_slice(&raw).ok()?));
        let documents = state.documents.into_iter().filter_map(document).collect();
        Self { head: state.head, documents, truncated: state.truncated, frame: OnceLock::new() }
    }
}

type Answer = Result<Arc<State>, BrokerError>;

/// Reads states: of each channel one read at a time. Who asks while one is under way is answered by the next, which
/// all who wait share: what was published before one asked is in the answer.
pub struct States {
    broker: Arc<dyn Broker>,
    /// Who waits for the next read of a channel. An entry stands as long as its task reads.
    waiting: DashMap<Channel, Vec<oneshot::Sender<Answer>>>,
    tasks: TaskTracker,
}

impl States {
    /// Reads from this broker.
    pub fn new(broker: Arc<dyn Broker>) -> Arc<Self> {
        Arc::new(Self { broker, waiting: DashMap::new(), tasks: TaskTracker::new() })
    }

    /// The state of a channel as it is now.
    ///
    /// # Errors
    /// What the broker answers.
    pub async fn read(self: Arc<Self>, channel: Channel) -> Answer {
        let (asked, answer) = oneshot::channel();
        match self.waiting.entry(channel.clone()) {
            Entry::Occupied(mut waiting) => waiting.get_mut().push(asked),
            Entry::Vacant(vacant) => {
                vacant.insert(vec![asked]);
                // A task of its own: it ends also when who asked has gone away.
                self.tasks.spawn(self.clone().serve(channel));
            }
        }
        answer.await.unwrap_or_else(|_| Err(BrokerError::Unavailable("the read was given up".to_owned())))
    }

    async fn serve(self: Arc<Self>, channel: Channel) {
        while let Some(waiting) = self.next(&channel) {
            let state = self.broker.state(&channel, None).await.map(|state| Arc::new(State::from(state)));
            for asked in waiting {
                let _ = asked.send(state.clone());
            }
        }
    }

    /// Who is answered by the read that begins now; when there is nobody, the channel is done with.
    fn next(&self, channel: &Channel) -> Option<Vec<oneshot::Sender<Answer>>> {
        match self.waiting.entry(channel.clone()) {
            Entry::Occupied(mut waiting) if !waiting.get().is_empty() => Some(std::mem::take(waiting.get_mut())),
            Entry::Occupied(done) => {
                done.remove();
                None
            }
            Entry::Vacant(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use crewcast_events::Namespaces;

    use super::*;
    use crate::testing::{FaultyBroker, append_state};

    const CHANNEL: &str = "agents:acme";

    #[tokio::test]
    async fn who_asks_while_a_read_is_under_way_shares_the_next_and_sees_what_was_published_before() {
        let broker = Arc::new(FaultyBroker::new(Namespaces::default()));
        let (states, channel) = (States::new(broker.clone()), CHANNEL.parse::<Channel>().unwrap());
        let held = broker.answers.write().await;
        let first = tokio::spawn(states.clone().read(channel.clone()));
        while broker.state_reads.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        append_state(&*broker, CHANNEL, r#"{"type":"x"}"#, "a1", r#"{"n":1}"#).await;
        let later: Vec<_> = (0..50).map(|_| tokio::spawn(states.clone().read(channel.clone()))).collect();
        while states.waiting.get(&channel).is_none_or(|waiting| waiting.len() < 50) {
            tokio::task::yield_now().await;
        }
        drop(held);
        assert!(first.await.unwrap().unwrap().documents.is_empty(), "it was read before");
        for answer in later {
            let state = answer.await.unwrap().unwrap();
            assert_eq!(state.document("a1").unwrap().get(), r#"{"n":1}"#);
            assert!(state.head.is_some() && state.document("a").is_none());
        }
        assert_eq!(broker.state_reads.load(Ordering::Relaxed), 2);
        while !states.waiting.is_empty() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_broker_that_is_away_is_told_to_everybody_and_asked_again_by_the_next() {
        let broker = Arc::new(FaultyBroker::new(Namespaces::default()));
        let (states, channel) = (States::new(broker.clone()), CHANNEL.parse::<Channel>().unwrap());
        broker.calls_left.store(0, Ordering::Relaxed);
        assert!(states.clone().read(channel.clone()).await.is_err());
        broker.calls_left.store(usize::MAX, Ordering::Relaxed);
        assert!(states.clone().read(channel).await.is_ok());
    }

    #[test]
    fn what_is_no_json_is_left_out() {
        let documents = [("a", "{"), ("b", "{\"x\":1.50}"), ("c", "")];
        let documents = documents.map(|(key, raw)| (key.to_owned(), Bytes::from_static(raw.as_bytes()))).to_vec();
        let state = State::from(ChannelState { documents, ..ChannelState::default() });
        assert_eq!(state.documents.len(), 1);
        assert_eq!(state.document("b").unwrap().get(), "{\"x\":1.50}");
    }
}
