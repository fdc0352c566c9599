//! Sends event after event into one channel, and repeats what was not answered.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use crewcast_events::{Body, Channel, Event};
use crewcast_publisher::{Append, AppendError, Entry, State, Transport};
use tokio::time::{Instant, sleep};

use crate::error::CliError;

/// How long an event that is not answered is repeated.
const PATIENCE: Duration = Duration::from_secs(15);
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// The `sub` in whose scope keys count when Redis is reached without a token.
const SUB: &str = "cli";

/// How an event is told from its repetition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Once {
    /// Not at all: live.
    Live,
    /// By a number of this sender.
    Sequence,
    /// By the caller's key.
    Key(String),
}

/// Sends into one channel.
pub struct Sender {
    transport: Arc<dyn Transport>,
    channel: Channel,
    once: Once,
    producer: Arc<str>,
    next: u64,
}

impl Sender {
    /// A sender with a name of its own.
    pub fn new(transport: Arc<dyn Transport>, channel: Channel, once: Once) -> Self {
        Self { transport, channel, once, producer: new_name(), next: 1 }
    }

    /// Publishes one event. Answers its id; `None` for a live one. `line`: where it stands in the input.
    ///
    /// # Errors
    /// [`CliError::Failed`] when it is no event or is refused, `Unreachable` when nobody answered for 15 s.
    pub async fn send(
        &mut self,
        event: Vec<u8>,
        state: Option<State>,
        line: Option<usize>,
    ) -> Result<Option<String>, CliError> {
        if self.once == Once::Live {
            self.send_live(event.into()).await.map(|()| None)
        } else {
            self.send_logged(event.into(), state, line).await.map(Some)
        }
    }

    async fn send_live(&self, event: Bytes) -> Result<(), CliError> {
        Event::parse(event.clone()).map_err(|error| CliError::Failed(error.to_string()))?;
        // Not repeated: whether it was heard is not known, and a live event may come twice to nobody.
        Ok(self.transport.publish_live(&self.channel, event).await?)
    }

    async fn send_logged(
        &mut self,
        event: Bytes,
        state: Option<State>,
        line: Option<usize>,
    ) -> Result<String, CliError> {
        let body = Body::parse(event).map_err(|error| CliError::Failed(error.to_string()))?;
        let entry = Entry { state, ..Entry::new(body) };
        let mut append = Append { channel: self.channel.clone(), entries: vec![entry], once: self.once(line) };
        let deadline = Instant::now() + PATIENCE;
        let mut wait = FIRST_WAIT;
        let ids = loop {
            match self.transport.append(&append).await {
                Ok(ids) => break ids,
                // The log has forgotten this sender: it goes on under another name.
                Err(AppendError::Gap { .. }) if self.next > 1 => {
                    (self.producer, self.next) = (new_name(), 1);
                    append.once = self.once(line);
                }
                Err(AppendError::Unavailable(why)) if Instant::now() + wait < deadline => {
                    tracing::warn!("not answered, repeated in {wait:?}: {why}");
                    sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
                Err(error) => return Err(error.into()),
            }
        };
        self.next += 1;
        let id = ids.first().copied().flatten();
        Ok(id.map_or_else(|| "published before".to_owned(), |id| id.to_string()))
    }

    fn once(&self, line: Option<usize>) -> crewcast_publisher::Once {
        match (&self.once, line) {
            (Once::Live, _) => crewcast_publisher::Once::No,
            (Once::Sequence, _) => {
                crewcast_publisher::Once::Sequence { producer: self.producer.clone(), first: self.next }
            }
            (Once::Key(key), None) => crewcast_publisher::Once::Key { sub: SUB.to_owned(), key: key.clone() },
            (Once::Key(key), Some(line)) => {
                crewcast_publisher::Once::Key { sub: SUB.to_owned(), key: format!("{key}-{line}") }
            }
        }
    }
}

fn new_name() -> Arc<str> {
    let random: String = std::iter::repeat_with(fastrand::alphanumeric).take(16).collect();
    format!("cli-{random}").into()
}
