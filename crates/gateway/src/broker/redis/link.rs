//! The one subscribing connection of a replica, supervised: it comes back by itself, and says when it is away.

use std::{sync::Arc, time::Duration};

use crewcast_events::Channel;
use parking_lot::Mutex;
use redis::{AsyncConnectionConfig, Client, PushInfo, PushKind, RedisError, RedisResult, aio::MultiplexedConnection};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tracing::{debug, info, warn};

use super::{
    delivery::Delivery,
    errors,
    server::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT},
    wanted::Wanted,
};
use crate::{
    broker::BrokerError,
    telemetry::metrics::{Metric, counter, gauge},
};

/// How often Redis is asked for a sign of life. One that is not given within [`RESPONSE_TIMEOUT`] ends the
/// connection: a link that is silently dead is found within the sum of both.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Reconnects wait a random time up to this, doubled with each failure …
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// … and at most this.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Channels in one SUBSCRIBE: above this more of them save nothing, and Redis serves nobody else meanwhile.
const CHUNK: usize = 1000;
/// How long a call waits for a link that is away.
const AWAY: Duration = Duration::from_secs(1);

/// The subscribing side of a broker.
pub(super) struct Subscriber {
    client: Client,
    /// What the connection is called in `CLIENT LIST`.
    name: String,
    patterns: Vec<String>,
    delivery: Arc<Delivery>,
    wanted: Mutex<Wanted>,
    /// Tells the task that the wanted set has changed.
    changed: Notify,
    /// The last change of the wanted set that Redis has confirmed.
    served: watch::Sender<u64>,
    state: watch::Sender<State>,
    current: Mutex<Option<Connected>>,
}

#[derive(Clone)]
struct Connected {
    connection: MultiplexedConnection,
    epoch: u64,
}

#[derive(Clone, Debug)]
enum State {
    Starting,
    Up,
    Down(BrokerError),
}

impl Subscriber {
    pub(super) fn new(client: Client, replica: &str, patterns: Vec<String>, delivery: Arc<Delivery>) -> Self {
        Self {
            client,
            name: client_name(replica),
            patterns,
            delivery,
            wanted: Mutex::default(),
            changed: Notify::new(),
            served: watch::Sender::new(0),
            state: watch::Sender::new(State::Starting),
            current: Mutex::new(None),
        }
    }

    /// Connects, serves, and connects again, until the future is dropped; then call [`Subscriber::close`].
    pub(super) async fn run(&self) {
        let mut failures = 0;
        loop {
            let (error, stood) = match self.connect().await {
                Ok((connected, lost)) => {
                    let since = Instant::now();
                    self.up(&connected);
                    (self.serve(connected.connection, &lost).await, since.elapsed())
                }
                Err(error) => (error, Duration::ZERO),
            };
            self.down(errors::of_redis(&error));
            // A link that falls as soon as it stands is no success.
            failures = if stood > BACKOFF_MAX { 0 } else { failures + 1 };
            sleep(backoff(failures)).await;
        }
    }

    /// The end: nothing is delivered any more, and every call fails.
    pub(super) fn close(&self) {
        self.delivery.close();
        self.current.lock().take();
        self.state.send_replace(State::Down(BrokerError::Unavailable("the broker is closed".to_owned())));
    }

    /// Waits for the first attempt to connect.
    pub(super) async fn started(&self) -> Result<(), BrokerError> {
        let mut state = self.state.subscribe();
        let first = state.wait_for(|state| !matches!(state, State::Starting)).await;
        match first.as_deref() {
            Ok(State::Up) => Ok(()),
            Ok(State::Down(error)) => Err(error.clone()),
            _ => Err(away()),
        }
    }

    pub(super) async fn subscribe(&self, channels: &[Channel]) -> Result<(), BrokerError> {
        let change = self.wanted.lock().add(channels);
        self.changed.notify_one();
        let mut state = self.state.subscribe();
        let given_up = async {
            let _ = state.wait_for(|state| !matches!(state, State::Up)).await;
            sleep(AWAY).await;
        };
        tokio::select! {
            biased;
            () = self.served(change) => Ok(()),
            () = given_up => Err(self.why_away()),
        }
    }

    pub(super) async fn unsubscribe(&self, channels: &[Channel]) {
        let change = self.wanted.lock().remove(channels);
        self.changed.notify_one();
        let mut state = self.state.subscribe();
        // With the link every subscription ends.
        let lost = async {
            let _ = state.wait_for(|state| !matches!(state, State::Up)).await;
        };
        tokio::select! {
            biased;
            () = self.served(change) => {}
            () = lost => {}
        }
    }

    /// Redis answers on the connection on which it sends messages, in order: behind the answer to a PING
    /// nothing is left of what was published before.
    pub(super) async fn barrier(&self) -> Result<(), BrokerError> {
        let Some(mut now) = self.current.lock().clone() else { return Err(self.why_away()) };
        ping(&mut now.connection).await.map_err(|error| errors::of_redis(&error))?;
        // A connection that was given up meanwhile has delivered nothing since.
        let same = self.current.lock().as_ref().is_some_and(|current| current.epoch == now.epoch);
        if same { Ok(()) } else { Err(self.why_away()) }
    }

    async fn served(&self, change: u64) {
        let _ = self.served.subscribe().wait_for(|served| *served >= change).await;
    }

    fn why_away(&self) -> BrokerError {
        match &*self.state.borrow() {
            State::Down(error) => error.clone(),
            State::Starting | State::Up => away(),
        }
    }

    /// A connection with everything subscribed that is wanted, and what tells its end.
    async fn connect(&self) -> RedisResult<(Connected, Arc<Notify>)> {
        let epoch = self.delivery.open();
        let lost = Arc::new(Notify::new());
        let (delivery, ended) = (self.delivery.clone(), lost.clone());
        let on_push = move |push: PushInfo| -> Result<(), RedisError> {
            match push.kind {
                PushKind::Disconnection => ended.notify_one(),
                _ => delivery.push(epoch, push),
            }
            Ok(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_push_sender(on_push);
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        redis::cmd("CLIENT").arg("SETNAME").arg(&self.name).exec_async(&mut connection).await?;
        // While Redis loads its data it greets and subscribes, but serves nothing else: that is no link yet.
        ping(&mut connection).await?;
        let names = &self.delivery.names;
        connection.subscribe(&[&names.control, &names.probe]).await?;
        if !self.patterns.is_empty() {
            connection.psubscribe(&self.patterns).await?;
        }
        self.wanted.lock().restart();
        self.reconcile(&mut connection).await?;
        // What was wanted during the first pass, by calls that may have given up since.
        self.reconcile(&mut connection).await?;
        Ok((Connected { connection, epoch }, lost))
    }

    /// Brings Redis' view after the wanted set, and tells those who wait for it.
    async fn reconcile(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let work = self.wanted.lock().take();
        for chunk in work.unsubscribe.chunks(CHUNK) {
            connection.unsubscribe(self.names_of(chunk)).await?;
        }
        for chunk in work.subscribe.chunks(CHUNK) {
            // Returns when every channel of it is confirmed (redis 1.8.0 and later).
            connection.subscribe(self.names_of(chunk)).await?;
        }
        self.served.send_replace(work.upto);
        Ok(())
    }

    fn names_of(&self, channels: &[Channel]) -> Vec<String> {
        channels.iter().map(|channel| self.delivery.names.of(channel)).collect()
    }

    /// Serves one connection until it fails; answers why it did.
    async fn serve(&self, mut connection: MultiplexedConnection, lost: &Notify) -> RedisError {
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let served = tokio::select! {
                biased;
                () = lost.notified() => return RedisError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe)),
                _ = heartbeat.tick() => ping(&mut connection).await,
                () = self.changed.notified() => self.reconcile(&mut connection).await,
            };
            if let Err(error) = served {
                return error;
            }
        }
    }

    fn up(&self, connected: &Connected) {
        *self.current.lock() = Some(connected.clone());
        self.delivery.up();
        gauge(Metric::BrokerUp, &[]).set(1.0);
        let again = matches!(self.state.send_replace(State::Up), State::Down(_));
        if again {
            counter(Metric::BrokerReconnects, &[]).increment(1);
        }
        info!(again, "the link to Redis is up");
    }

    fn down(&self, error: BrokerError) {
        self.current.lock().take();
        let was_up = self.delivery.down();
        gauge(Metric::BrokerUp, &[]).set(0.0);
        if was_up || matches!(*self.state.borrow(), State::Starting) {
            warn!(%error, "the link to Redis is down; connecting again");
        } else {
            debug!(%error, "no connection to Redis");
        }
        self.state.send_replace(State::Down(error));
    }
}

async fn ping(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    redis::cmd("PING").exec_async(connection).await
}

fn away() -> BrokerError {
    BrokerError::Unavailable("the link to Redis is down".to_owned())
}

/// A random wait before attempt number `failures` + 1, so that replicas do not come back in step.
fn backoff(failures: u32) -> Duration {
    let most = BACKOFF_FIRST.saturating_mul(1 << failures.min(10)).min(BACKOFF_MAX);
    most.mul_f64(fastrand::f64())
}

/// `CLIENT SETNAME` takes printable ASCII without spaces only.
fn client_name(replica: &str) -> String {
    let safe = replica.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' });
    format!("crewcast-sub-{}", safe.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_is_random_and_bounded() {
        for failures in 0..100 {
            let bound = BACKOFF_MAX.min(BACKOFF_FIRST * (1 << failures.min(10)));
            assert!((0..100).all(|_| backoff(failures) <= bound));
        }
        assert!((0..100).any(|_| backoff(100) > BACKOFF_MAX / 2));
    }

    #[test]
    fn a_client_name_has_no_spaces() {
        assert_eq!(client_name("pod 1\n"), "crewcast-sub-pod_1_");
    }
}
