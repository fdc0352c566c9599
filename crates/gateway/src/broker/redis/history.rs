//! Reading logs, heads and retained values.

use std::sync::LazyLock;

use bytes::Bytes;
use crewcast_events::{Channel, EventId, Keys, Namespaces};
use crewcast_store::{RedisClient, scripts};
use redis::{Script, Value};

use super::errors;
use crate::{
    broker::{BrokerError, PAGE_BYTES, Page, Snapshot},
    util::log_throttle::once_a_minute,
};

/// Channels in one pipeline: bounds the size of one answer.
const SNAPSHOTS: usize = 500;

static HISTORY: LazyLock<Script> = LazyLock::new(|| Script::new(scripts::HISTORY));

/// Reads a page of a channel's log atomically.
pub(super) async fn history(
    redis: &RedisClient,
    keys: &Keys,
    channel: &Channel,
    offset: u64,
    limit: usize,
) -> Result<Page, BrokerError> {
    let mut call = HISTORY.key(keys.log(channel));
    call.key(keys.head(channel)).arg(offset).arg(limit).arg(PAGE_BYTES);
    let answer: Value = call.invoke_async(&mut redis.pooled()).await.map_err(|error| errors::of_redis(&error))?;
    Ok(page(answer).ok_or_else(|| errors::not_understood("history.lua"))?.mended())
}

fn page(answer: Value) -> Option<Page> {
    let Value::Array(parts) = answer else { return None };
    let [head, first, at, Value::Array(entries)] = <[Value; 4]>::try_from(parts).ok()? else { return None };
    let entries = entries.into_iter().map(bytes).collect::<Option<_>>()?;
    Some(Page { head: id(head)?, first: id(first)?, at: id(at)?, entries })
}

/// Reads heads and retained values, in the order asked. The two values of one channel are read atomically.
pub(super) async fn snapshots(
    redis: &RedisClient,
    keys: &Keys,
    namespaces: &Namespaces,
    channels: &[Channel],
) -> Result<Vec<Snapshot>, BrokerError> {
    let mut snapshots = Vec::with_capacity(channels.len());
    if channels.is_empty() {
        return Ok(snapshots);
    }
    let connection = redis.pooled();
    for chunk in channels.chunks(SNAPSHOTS) {
        let commands = chunk.iter().map(|channel| {
            let mut command = redis::cmd("MGET");
            command.arg(keys.head(channel));
            if namespaces.of(channel).is_some_and(|rules| rules.retain) {
                command.arg(keys.retained(channel));
            }
            command
        });
        let answers = connection.each(commands.collect()).await.map_err(|error| errors::of_redis(&error))?;
        for answer in &answers {
            errors::none_passing(answer)?;
        }
        for answer in answers {
            snapshots.push(snapshot(answer).unwrap_or_else(|| {
                // Another program's key: that channel has no readable log, and the others continue.
                once_a_minute("bad_head", || tracing::warn!("a channel's head or retained value is not Crewcast's"));
                Snapshot::default()
            }));
        }
    }
    Ok(snapshots)
}

fn snapshot(answer: Value) -> Option<Snapshot> {
    let Value::Array(parts) = answer else { return None };
    let mut parts = parts.into_iter();
    let head = id(parts.next()?)?;
    let retained = match parts.next() {
        None | Some(Value::Nil) => None,
        Some(value) => Some(bytes(value)?),
    };
    Some(Snapshot { head, retained })
}

/// Parses an optional id; the outer `None` means neither an id nor nil.
pub(super) fn id(value: Value) -> Option<Option<EventId>> {
    match value {
        Value::Nil => Some(None),
        Value::BulkString(text) => Some(Some(std::str::from_utf8(&text).ok()?.parse().ok()?)),
        _ => None,
    }
}

fn bytes(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(bytes) => Some(bytes.into()),
        _ => None,
    }
}
