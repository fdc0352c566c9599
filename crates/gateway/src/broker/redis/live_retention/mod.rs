//! What producers that only know PUBLISH leave behind: retained values, and what `broker/captured.rs` says.
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
use crate::broker::{
    BrokerError,
    captured::{Captured, Counted, DocumentChange, LINES, Live, captured},
};

/// How long a lease lasts without renewal.
const LEASE: Duration = Duration::from_secs(5);
/// How often the holder renews the lease, and the others ask for it.
const RENEW: Duration = Duration::from_millis(1500);
/// How long a replica remembers what it received: until a lease has expired and a replica has asked for it.
const REMEMBER: Duration = Duration::from_secs(7);
/// Values that a replica remembers. Beyond that, the one that has not changed for the longest time is dropped.
const VALUES: usize = 50_000;
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
    /// The namespaces whose live messages are captured.
    namespaces: Namespaces,
    recent: Mutex<Recent>,
    heard: Notify,
}

impl Capture {
    /// `None` if no namespace retains live messages.
    pub(super) fn new(redis: RedisClient, keys: Keys, replica: &str, namespaces: &Namespaces) -> Option<Self> {
        let captured = namespaces.0.iter().filter(|(_, rules)| rules.capture_live);
        let namespaces = Namespaces(captured.map(|(name, rules)| (name.clone(), rules.clone())).collect());
        (!namespaces.0.is_empty()).then(|| Self {
            redis,
            keys,
            holder: format!("{replica}:{:016x}", fastrand::u64(..)),
            namespaces,
            recent: Mutex::new(Recent::new(VALUES, BYTES)),
            heard: Notify::new(),
        })
    }

    /// Whether the live messages of this namespace are captured.
    pub(super) fn hears(&self, namespace: &str) -> bool {
        self.namespaces.0.contains_key(namespace)
    }

    /// Takes a message of a captured namespace. Does not block.
    pub(super) fn heard(&self, channel: Channel, message: Bytes) {
        let Some(rules) = self.namespaces.of(&channel) else { return };
        // Logged messages leave a retained value at most. Most messages are logged: they are not even parsed.
        if !rules.retain && EventId::of_message(&message).is_some() {
            return;
        }
        let Ok(event) = Event::parse(message.clone()) else { return };
        let (id, now) = (event.id(), Instant::now());
        let all = captured(&channel, rules, &event);
        let mut recent = self.recent.lock();
        let mut is_new = false;
        for captured in all {
            is_new |= recent.heard(channel.clone(), captured, message.clone(), id, now);
        }
        if is_new {
            self.heard.notify_one();
        }
    }

    /// Renews the lease and writes what was received, until the future is dropped; then call [`Capture::farewell`].
    pub(super) async fn run(&self) {
        let mut renew = interval(RENEW);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut lease = None;
        // Whether another replica, or a failed attempt, may have written some of it already.
        let mut repeats = true;
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
            let written = self.write(lease, repeats).await;
            repeats = written.is_err() || lease.is_none();
            if let Err(error) = written {
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
            self.write(lease, true).await?;
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
    async fn write(&self, lease: Option<Instant>, repeats: bool) -> Result<(), BrokerError> {
        let is_held = || lease.is_some_and(|until| Instant::now() < until);
        while is_held() {
            let batch = self.recent.lock().batch(BATCH.0, BATCH.1);
            if batch.is_empty() {
                break;
            }
            // The commands of a channel keep their order: they go to one server.
            let old = self.old_documents(&batch).await?;
            let written = self.redis.pooled().each(self.commands(&batch, &old, repeats)).await;
            let written = written.and_then(|answers| answers.into_iter().try_for_each(|a| a.extract_error().map(drop)));
            written.map_err(|error| errors::of_redis(&error))?;
            self.recent.lock().written(&batch);
        }
        Ok(())
    }

    /// The documents that are changed and not replaced, by the number of the write.
    async fn old_documents(&self, batch: &[Write]) -> Result<HashMap<u64, String>, BrokerError> {
        let changed = batch.iter().filter_map(|write| match &write.captured {
            Captured::Document { key, change: DocumentChange::Merge(_) } => Some((write, key)),
            _ => None,
        });
        let (numbers, commands): (Vec<u64>, Vec<Cmd>) = changed
            .map(|(write, key)| {
                (write.number, redis::cmd("HGET").arg(self.keys.state(&write.channel)).arg(key).to_owned())
            })
            .unzip();
        if commands.is_empty() {
            return Ok(HashMap::new());
        }
        let answers = self.redis.pooled().each(commands).await.map_err(|error| errors::of_redis(&error))?;
        let texts = answers.into_iter().map(|answer| redis::from_redis_value::<Option<String>>(answer).ok().flatten());
        Ok(numbers.into_iter().zip(texts).filter_map(|(number, text)| Some((number, text?))).collect())
    }

    fn commands(&self, batch: &[Write], old: &HashMap<u64, String>, repeats: bool) -> Vec<Cmd> {
        batch.iter().flat_map(|write| self.commands_of(write, old.get(&write.number), repeats)).collect()
    }

    fn commands_of(&self, write: &Write, old: Option<&String>, repeats: bool) -> Vec<Cmd> {
        let Write { channel, message, id, .. } = write;
        let age =
            self.namespaces.of(channel).map_or(1, |rules| rules.log.age.saturating_add(HEAD_BEYOND_LOG).as_secs());
        match (&write.captured, id) {
            (Captured::Retained, None) => vec![set(&self.keys.retained(channel), message, age)],
            (Captured::Retained, Some(id)) => {
                let mut follow = redis::cmd("EVAL");
                follow.arg(scripts::RETAIN_LOGGED).arg(2).arg(self.keys.head(channel)).arg(self.keys.retained(channel));
                follow.arg(id.to_string()).arg(&message[..]).arg(age);
                vec![follow]
            }
            (Captured::Last { name }, _) => vec![set(&self.keys.live(channel, name), message, age)],
            (Captured::Document { key, change }, _) => {
                let state = self.keys.state(channel);
                let write = match change.apply(old.map(String::as_str)) {
                    Some(document) => redis::cmd("HSET").arg(&state).arg(key).arg(document.get()).to_owned(),
                    None => redis::cmd("HDEL").arg(&state).arg(key).to_owned(),
                };
                vec![write, redis::cmd("EXPIRE").arg(&state).arg(age).to_owned()]
            }
            (Captured::Line { name }, _) => {
                let mut append = redis::cmd("EVAL");
                append.arg(scripts::CAPTURE_LINE).arg(1).arg(self.keys.live_lines(channel, name));
                append.arg(&message[..]).arg(LINES).arg(age).arg(u8::from(repeats));
                vec![append]
            }
            (Captured::Counted { what, item }, _) => {
                let mut count = redis::cmd("EVAL");
                count.arg(scripts::CAPTURE_COUNT).arg(3);
                for what in [Counted::Nodes, Counted::Edges] {
                    count.arg(self.keys.live(channel, what.as_str()));
                }
                count.arg(self.keys.state(channel)).arg(what.as_str()).arg(item).arg(age);
                vec![count]
            }
        }
    }
}

fn set(key: &str, message: &Bytes, age: u64) -> Cmd {
    redis::cmd("SET").arg(key).arg(&message[..]).arg("EX").arg(age).to_owned()
}

/// What was captured under a name of a channel.
pub(super) async fn live(redis: &RedisClient, keys: &Keys, channel: &Channel, name: &str) -> Result<Live, BrokerError> {
    let last = redis::cmd("GET").arg(keys.live(channel, name)).to_owned();
    let lines = redis::cmd("LRANGE").arg(keys.live_lines(channel, name)).arg(0).arg(-1).to_owned();
    let answers = redis.pooled().each(vec![last, lines]).await.map_err(|error| errors::of_redis(&error))?;
    let [last, lines] = <[redis::Value; 2]>::try_from(answers).map_err(|_| errors::not_understood("GET and LRANGE"))?;
    let not_understood = |_| errors::not_understood("GET and LRANGE");
    let last: Option<Vec<u8>> = redis::from_redis_value(last).map_err(not_understood)?;
    let lines: Vec<Vec<u8>> = redis::from_redis_value(lines).map_err(not_understood)?;
    Ok(Live { last: last.map(Bytes::from), lines: lines.into_iter().map(Bytes::from).collect() })
}
