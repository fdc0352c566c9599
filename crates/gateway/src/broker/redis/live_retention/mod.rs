//! Retained live values: the last messages of producers that only know PUBLISH.
//!
//! Every replica subscribes to the namespaces' patterns, and the one that holds the lease writes. The others remember
//! what they received for longer than a lease lasts, and write it when they take over the lease: nothing is lost if a
//! holder dies.

mod recent;

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use crewcast_events::{Channel, Event, EventId, Keys, Namespaces, namespace::HEAD_BEYOND_LOG};
use crewcast_store::{RedisClient, scripts};
use parking_lot::Mutex;
use redis::{Cmd, Script};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tracing::{debug, warn};

use self::recent::{Recent, Write};
use super::errors;
use crate::broker::BrokerError;

/// How long a lease lasts without renewal.
const LEASE: Duration = Duration::from_secs(5);
/// How often the holder renews the lease, and the others ask for it.
const RENEW: Duration = Duration::from_millis(1500);
/// How long a replica remembers what it received: until a lease has expired and a replica has asked for it.
const REMEMBER: Duration = Duration::from_secs(7);
/// Channels of which a replica remembers the last live message. Beyond that, the channel without a message for the
/// longest time is dropped.
const CHANNELS: usize = 10_000;
/// Size of those messages in bytes, with the same rule beyond it.
const BYTES: usize = 64 << 20;
/// Values in one pipeline, and bytes of them beyond the first.
const BATCH: (usize, usize) = (128, 4 << 20);
/// How long a closing broker waits for the last values to be written.
const FAREWELL: Duration = Duration::from_secs(1);

/// Hears live messages, and writes them while it holds the lease.
pub(super) struct Capture {
    redis: RedisClient,
    keys: Keys,
    /// This replica's identity as a holder: its name and a random number that a restart changes.
    holder: String,
    /// The namespaces whose live messages are retained, with the age of a retained value in seconds.
    ages: HashMap<String, u64>,
    recent: Mutex<Recent>,
    heard: Notify,
}

impl Capture {
    /// `None` if no namespace retains live messages.
    pub(super) fn new(redis: RedisClient, keys: Keys, replica: &str, namespaces: &Namespaces) -> Option<Self> {
        let captured = namespaces.0.iter().filter(|(_, rules)| rules.capture_live && rules.retain);
        let age = |age: Duration| age.saturating_add(HEAD_BEYOND_LOG).as_secs();
        let ages: HashMap<_, _> = captured.map(|(name, rules)| (name.clone(), age(rules.log.age))).collect();
        (!ages.is_empty()).then(|| Self {
            redis,
            keys,
            holder: format!("{replica}:{:016x}", fastrand::u64(..)),
            ages,
            recent: Mutex::new(Recent::new(CHANNELS, BYTES)),
            heard: Notify::new(),
        })
    }

    pub(super) fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.ages.keys().map(String::as_str)
    }

    /// Takes a message of a captured namespace. Does not block.
    pub(super) fn heard(&self, channel: Channel, message: Bytes) {
        let id = EventId::of_message(&message);
        if !self.ages.contains_key(channel.namespace()) || Event::parse(message.clone()).is_err() {
            return;
        }
        if self.recent.lock().heard(channel, message, id, Instant::now()) {
            self.heard.notify_one();
        }
    }

    /// Renews the lease and writes what was received, until the future is dropped; then call [`Capture::farewell`].
    pub(super) async fn run(&self) {
        let mut renew = interval(RENEW);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut lease = None;
        loop {
            let renewing = tokio::select! {
                _ = renew.tick() => true,
                () = self.heard.notified() => false,
            };
            if renewing {
                self.forget();
                lease = self.renew().await.unwrap_or_else(|error| {
                    debug!(%error, "could not renew the capture lease; trying again");
                    lease
                });
            }
            // Failed values stay, and are tried again with the next renewal.
            if let Err(error) = self.write(lease).await {
                debug!(%error, "could not write captured values; trying again");
            }
        }
    }

    /// Writes what is left and releases the lease.
    pub(super) async fn farewell(&self) {
        let last = async {
            let lease = self.renew().await?;
            if lease.is_none() {
                return Ok(());
            }
            self.write(lease).await?;
            let mut connection = self.redis.pooled();
            let release = Script::new(scripts::RELEASE_RETENTION_LEASE);
            let mut call = release.key(self.keys.capture_lease());
            call.arg(&self.holder).invoke_async(&mut connection).await.map_err(|error| errors::of_redis(&error))
        };
        if !matches!(timeout(FAREWELL, last).await, Ok(Ok(()))) {
            debug!("could not release the capture lease; it expires by itself");
        }
    }

    fn forget(&self) {
        let overflowed = self.recent.lock().forget(Instant::now(), REMEMBER);
        if overflowed > 0 {
            warn!(channels = overflowed, "dropped live values before they were stored: too many channels at once");
        }
    }

    /// Takes or renews the lease. Returns how long this replica may write; `None` if another one holds the lease.
    async fn renew(&self) -> Result<Option<Instant>, BrokerError> {
        let asked = Instant::now();
        let mut connection = self.redis.pooled();
        let script = Script::new(scripts::RENEW_RETENTION_LEASE);
        let mut call = script.key(self.keys.capture_lease());
        call.arg(&self.holder).arg(LEASE.as_millis() as u64);
        let held: bool = call.invoke_async(&mut connection).await.map_err(|error| errors::of_redis(&error))?;
        Ok(held.then_some(asked + LEASE))
    }

    /// Writes what was received, while the lease lasts.
    async fn write(&self, lease: Option<Instant>) -> Result<(), BrokerError> {
        let is_held = || lease.is_some_and(|until| Instant::now() < until);
        while is_held() {
            let batch = self.recent.lock().batch(BATCH.0, BATCH.1);
            if batch.is_empty() {
                break;
            }
            // Each value belongs to another channel, so order does not matter.
            let written = self.redis.pooled().each(self.commands(&batch)).await;
            let written = written.and_then(|answers| answers.into_iter().try_for_each(|a| a.extract_error().map(drop)));
            written.map_err(|error| errors::of_redis(&error))?;
            self.recent.lock().written(&batch);
        }
        Ok(())
    }

    fn commands(&self, batch: &[Write]) -> Vec<Cmd> {
        let command = |Write { channel, message, id, .. }: &Write| {
            let retained = self.keys.retained(channel);
            let age = self.ages.get(channel.namespace()).copied().unwrap_or(1);
            match id {
                None => redis::cmd("SET").arg(retained).arg(&message[..]).arg("EX").arg(age).to_owned(),
                Some(id) => {
                    let mut follow = redis::cmd("EVAL");
                    follow.arg(scripts::RETAIN_LOGGED).arg(2).arg(self.keys.head(channel)).arg(retained);
                    follow.arg(id.to_string()).arg(&message[..]).arg(age);
                    follow
                }
            }
        };
        batch.iter().map(command).collect()
    }
}
