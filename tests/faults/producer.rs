//! The producer: publishes numbered events at an even pace, the same number to every channel.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use crewcast_events::Namespaces;
use crewcast_publisher::Publisher;
use serde_json::json;
use tokio::{task::JoinHandle, time::MissedTickBehavior};

use crate::stage::{CHANNELS, DEADLINE};

/// Makes an event larger than anything else on a subscribing connection.
const NOTE: &str = "an event of ordinary size, so that a message can be told from an answer to a ping by its length";

pub(crate) struct Producer {
    pen: Arc<Pen>,
    task: JoinHandle<()>,
}

/// Numbers events and publishes them one after the other.
struct Pen {
    publisher: Publisher,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: u64,
    is_silent: bool,
}

impl Pen {
    /// Publishes the next event to every channel, unless the producer is paused.
    fn speak(&self) {
        let mut state = self.state.lock().unwrap();
        if !state.is_silent {
            self.write(&mut state, NOTE);
        }
    }

    /// The lock is held while publishing, so that events are published in the order of their numbers.
    fn write(&self, state: &mut State, note: &str) {
        state.last += 1;
        for channel in CHANNELS {
            self.publisher.publish(channel, &json!({ "type": "step", "n": state.last, "note": note })).unwrap();
        }
    }
}

impl Producer {
    /// Starts a producer that publishes an event to every channel at each tick of `pace`.
    pub(crate) async fn start(url: &str, namespaces: Namespaces, pace: Duration) -> Self {
        let publisher = Publisher::builder()
            .namespaces(namespaces)
            .queue_events(100_000)
            .queue_bytes(64 << 20)
            .connect(url)
            .await
            .unwrap();
        let pen = Arc::new(Pen { publisher, state: Mutex::default() });
        let task = tokio::spawn(speak(pen.clone(), pace));
        Self { pen, task }
    }

    /// The number of the last event.
    pub(crate) fn last(&self) -> u64 {
        self.pen.state.lock().unwrap().last
    }

    /// Pauses publishing and returns the number of the last event.
    pub(crate) fn pause(&self) -> u64 {
        let mut state = self.pen.state.lock().unwrap();
        state.is_silent = true;
        state.last
    }

    /// Resumes publishing.
    pub(crate) fn resume(&self) {
        self.pen.state.lock().unwrap().is_silent = false;
    }

    /// Publishes one more event to every channel.
    pub(crate) fn one_more(&self) {
        self.burst(1, NOTE.len());
    }

    /// Publishes a burst of events with notes of this size.
    pub(crate) fn burst(&self, count: u64, bytes: usize) {
        let note = "x".repeat(bytes);
        let mut state = self.pen.state.lock().unwrap();
        for _ in 0..count {
            self.pen.write(&mut state, &note);
        }
    }

    /// The number of events that the producer resent because the log had lost them.
    pub(crate) fn resent(&self) -> u64 {
        self.pen.publisher.stats().resent
    }

    /// The number of attempts that the producer repeated.
    pub(crate) fn retried(&self) -> u64 {
        self.pen.publisher.stats().retried
    }

    /// Waits until everything is sent. No event may be left, and none may have been dropped unless the log has lost
    /// confirmed events, which the publisher counts as dropped.
    pub(crate) async fn close(&self, log_survives: bool) {
        self.task.abort();
        let unsent = self.pen.publisher.close(DEADLINE).await;
        assert_eq!(unsent.events, 0, "the producer has unsent events");
        let stats = self.pen.publisher.stats();
        assert!(stats.dropped == 0 || !log_survives, "the producer dropped events: {stats:?}");
    }
}

async fn speak(pen: Arc<Pen>, pace: Duration) {
    let mut pace = tokio::time::interval(pace);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        pen.speak();
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
