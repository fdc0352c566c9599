//! Reading state documents and leases.

use std::{sync::LazyLock, time::Duration};

use bytes::Bytes;
use crewcast_events::{Channel, Keys, catalog::lease_expiry::LeaseStatus};
use crewcast_store::{RedisClient, scripts};
use redis::{Script, Value, from_redis_value};

use super::{errors, history::id};
use crate::broker::{BrokerError, ExpiredLease, MAX_DOCUMENTS, MAX_EXPIRED, STATE_BYTES, StateDocuments};

static STATE: LazyLock<Script> = LazyLock::new(|| Script::new(scripts::STATE));
static EXPIRED_LEASES: LazyLock<Script> = LazyLock::new(|| Script::new(scripts::EXPIRED_LEASES));

/// Channels in one pipeline.
const CHANNELS: usize = 500;

pub(super) async fn state(
    redis: &RedisClient,
    keys: &Keys,
    channel: &Channel,
    within: Option<Duration>,
) -> Result<StateDocuments, BrokerError> {
    let mut call = STATE.key(keys.state(channel));
    call.key(keys.head(channel)).key(keys.log(channel)).key(keys.leases(channel));
    call.arg(MAX_DOCUMENTS).arg(STATE_BYTES).arg(within.map_or(String::new(), |within| within.as_millis().to_string()));
    let answer: Value = call.invoke_async(&mut redis.pooled()).await.map_err(|error| errors::of_redis(&error))?;
    read_state(answer).ok_or_else(|| errors::not_understood("state.lua"))
}

fn read_state(answer: Value) -> Option<StateDocuments> {
    let Value::Array(parts) = answer else { return None };
    let [head, truncated, documents, first_end] = <[Value; 4]>::try_from(parts).ok()?;
    let texts: Vec<Vec<u8>> = from_redis_value(documents).ok()?;
    let mut documents = Vec::with_capacity(texts.len() / 2);
    let mut texts = texts.into_iter();
    while let (Some(key), Some(document)) = (texts.next(), texts.next()) {
        documents.push((String::from_utf8(key).ok()?, Bytes::from(document)));
    }
    documents.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let first_end: Option<u64> = from_redis_value(first_end).ok()?;
    let first_end = first_end.map(Duration::from_millis);
    Some(StateDocuments { head: id(head)?, documents, truncated: truncated == Value::Int(1), first_end, live: None })
}

pub(super) async fn next_lease_expiry(
    redis: &RedisClient,
    keys: &Keys,
    channels: &[Channel],
) -> Result<Vec<Option<Duration>>, BrokerError> {
    let mut all = Vec::with_capacity(channels.len());
    for chunk in channels.chunks(CHANNELS) {
        let commands = chunk.iter().map(|channel| {
            let mut command = redis::cmd("EVAL");
            command.arg(scripts::NEXT_LEASE_EXPIRY).arg(1).arg(keys.due(channel));
            command
        });
        let answers = redis.pooled().each(commands.collect()).await.map_err(|error| errors::of_redis(&error))?;
        for answer in answers {
            errors::none_passing(&answer)?;
            // Another program's key holds no lease.
            let millis = answer.extract_error().ok().and_then(|value| from_redis_value::<Option<u64>>(value).ok());
            all.push(millis.flatten().map(Duration::from_millis));
        }
    }
    Ok(all)
}

pub(super) async fn expired_leases(
    redis: &RedisClient,
    keys: &Keys,
    channel: &Channel,
) -> Result<Vec<ExpiredLease>, BrokerError> {
    let mut call = EXPIRED_LEASES.key(keys.due(channel));
    call.key(keys.leases(channel)).arg(MAX_EXPIRED);
    let answer: Result<Vec<Option<String>>, _> = call.invoke_async(&mut redis.pooled()).await;
    let answer = answer.map_err(|error| errors::of_redis(&error))?;
    let (now, leases) = answer.split_first().ok_or_else(|| errors::not_understood("expired_leases.lua"))?;
    let now =
        now.as_ref().and_then(|now| now.parse().ok()).ok_or_else(|| errors::not_understood("expired_leases.lua"))?;
    Ok(leases.chunks_exact(2).filter_map(|pair| lease(pair[0].as_deref()?, pair[1].as_deref()?, now)).collect())
}

/// Parses `<renewed, ms>:<ttl, ms>:<told>:<about>`.
fn lease(name: &str, value: &str, now: u64) -> Option<ExpiredLease> {
    let mut parts = value.splitn(4, ':');
    let renewed: u64 = parts.next()?.parse().ok()?;
    let ttl: u64 = parts.next()?.parse().ok()?;
    let expiry = match (parts.next()?, renewed.saturating_add(ttl) <= now) {
        ("0", true) => LeaseStatus::Stalled,
        ("1" | "2", true) => LeaseStatus::Lost,
        ("1" | "2", false) => LeaseStatus::Recovered,
        _ => return None,
    };
    let since = Duration::from_millis(now.saturating_sub(renewed));
    Some(ExpiredLease { name: name.to_owned(), expiry, since, about: parts.next()?.to_owned() })
}
