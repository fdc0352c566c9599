//! The registry in Redis.

use std::{collections::HashMap, sync::LazyLock, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use crewcast_events::{Keys, Kind, timestamp::unix_now};
use crewcast_store::{Ownership, RedisClient, scripts};
use redis::{AsyncCommands, Script, from_redis_value};

use super::{
    BrokerError, ClientNumbers, Control, Directory, Revocation, RevocationTarget, Revocations, Tickets, USAGE_AGE,
    UsageBoard,
};
use crate::broker::redis::{RedisBroker, errors};

/// Ids in one pipeline.
const OWNERS: usize = 1000;

static REPORT_USAGE: LazyLock<Script> = LazyLock::new(|| Script::new(scripts::REPORT_USAGE));
static READ_USAGE: LazyLock<Script> = LazyLock::new(|| Script::new(scripts::READ_USAGE));
static ANNOUNCE: LazyLock<Script> = LazyLock::new(|| Script::new(scripts::ANNOUNCE));
static REVOKE: LazyLock<Script> = LazyLock::new(|| Script::new(scripts::REVOKE));

/// The registry in Redis. Needs no subscription, so that the command line uses it on its own.
#[derive(Clone)]
pub struct RedisRegistry {
    redis: RedisClient,
    keys: Keys,
}

impl RedisRegistry {
    /// The registry in this Redis.
    pub fn new(redis: RedisClient, keys: Keys) -> Self {
        Self { redis, keys }
    }

    /// The registry in the Redis of a broker, over the same connections.
    pub fn beside(broker: &RedisBroker) -> Self {
        Self::new(broker.redis().clone(), broker.keys().clone())
    }
}

#[async_trait]
impl Directory for RedisRegistry {
    async fn owners(&self, kind: Kind, ids: &[String]) -> Result<HashMap<String, Ownership>, BrokerError> {
        let mut ownerships = HashMap::new();
        for chunk in ids.chunks(OWNERS) {
            let commands = chunk.iter().map(|id| {
                let entry = self.keys.directory_entry(kind, id);
                redis::cmd("HMGET").arg(entry).arg("org").arg("crew").to_owned()
            });
            let read = async {
                let entries = self.redis.pooled().each(commands.collect()).await?;
                entries.into_iter().map(|entry| Ok(from_redis_value(entry.extract_error()?)?)).collect()
            };
            let entries: Result<Vec<(Option<String>, Option<String>)>, redis::RedisError> = read.await;
            let entries = entries.map_err(|error| errors::of_redis(&error))?;
            for (id, (org, crew)) in chunk.iter().zip(entries) {
                if let Some(org) = org {
                    let crew = crew.filter(|crew| !crew.is_empty());
                    ownerships.insert(id.clone(), Ownership { kind, id: id.clone(), org, crew });
                }
            }
        }
        Ok(ownerships)
    }

    async fn ids_of_org(&self, org: &str, kind: Kind) -> Result<Vec<String>, BrokerError> {
        let list = self.keys.directory_of_org(org, kind);
        let ids: Result<Vec<String>, _> = self.redis.pooled().zrange(list, 0, -1).await;
        let mut ids = ids.map_err(|error| errors::of_redis(&error))?;
        // The list follows the entries and may lag behind: only an entry names the owner of an id.
        let owners = self.owners(kind, &ids).await?;
        ids.retain(|id| owners.get(id).is_some_and(|ownership| ownership.org == org));
        Ok(ids)
    }
}

#[async_trait]
impl Revocations for RedisRegistry {
    async fn revoke(&self, revocation: &Revocation) -> Result<(), BrokerError> {
        let message = serde_json::to_string(&Control::Revoked(revocation.clone()))
            .map_err(|error| BrokerError::Protocol(error.to_string()))?;
        let mut call = REVOKE.key(self.keys.revocations());
        call.arg(field(&revocation.target)).arg(revocation.issued_until).arg(revocation.remember_until);
        call.arg(unix_now()).arg(self.keys.control()).arg(message);
        let mut connection = self.redis.pooled();
        call.invoke_async(&mut connection).await.map_err(|error| errors::of_redis(&error))
    }

    async fn revocations(&self) -> Result<Vec<Revocation>, BrokerError> {
        let all: Result<HashMap<String, String>, _> = self.redis.pooled().hgetall(self.keys.revocations()).await;
        let all = all.map_err(|error| errors::of_redis(&error))?;
        let now = unix_now();
        let known = all.iter().filter_map(|(field, times)| parse(field, times));
        Ok(known.filter(|revocation| revocation.remember_until >= now).collect())
    }
}

#[async_trait]
impl Tickets for RedisRegistry {
    async fn put_ticket(&self, ticket: &str, content: Bytes, ttl: Duration) -> Result<(), BrokerError> {
        let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut connection = self.redis.pooled();
        let put: Result<(), _> = connection.pset_ex(self.keys.ticket(ticket), &content[..], millis).await;
        put.map_err(|error| errors::of_redis(&error))
    }

    async fn take_ticket(&self, ticket: &str) -> Result<Option<Bytes>, BrokerError> {
        let mut connection = self.redis.pooled();
        let taken: Result<Option<Vec<u8>>, _> = connection.get_del(self.keys.ticket(ticket)).await;
        taken.map(|content| content.map(Bytes::from)).map_err(|error| errors::of_redis(&error))
    }
}

#[async_trait]
impl UsageBoard for RedisRegistry {
    async fn report_usage(&self, replica: &str, usage: Option<Bytes>) -> Result<(), BrokerError> {
        let mut call = REPORT_USAGE.key(self.keys.replicas());
        call.arg(replica).arg(USAGE_AGE.as_secs() * 1000).arg(&usage.unwrap_or_default()[..]);
        let mut connection = self.redis.pooled();
        call.invoke_async(&mut connection).await.map_err(|error| errors::of_redis(&error))
    }

    async fn usage(&self) -> Result<Vec<(String, Bytes)>, BrokerError> {
        let call = READ_USAGE.key(self.keys.replicas());
        let mut connection = self.redis.pooled();
        let told: Result<Vec<Vec<u8>>, _> = call.invoke_async(&mut connection).await;
        let told = told.map_err(|error| errors::of_redis(&error))?;
        let pairs = told.chunks_exact(2);
        Ok(pairs.map(|pair| (String::from_utf8_lossy(&pair[0]).into_owned(), pair[1].clone().into())).collect())
    }
}

#[async_trait]
impl ClientNumbers for RedisRegistry {
    async fn register_client(&self, client: &str) -> Result<u64, BrokerError> {
        // The script replaces the zero at the end with the number.
        let message = serde_json::to_string(&Control::Client { client: client.to_owned(), number: 0 })
            .map_err(|error| BrokerError::Protocol(error.to_string()))?;
        let mut call = ANNOUNCE.key(self.keys.revocations());
        call.arg(self.keys.control()).arg(message.trim_end_matches("0}"));
        let mut connection = self.redis.pooled();
        call.invoke_async(&mut connection).await.map_err(|error| errors::of_redis(&error))
    }
}

fn field(target: &RevocationTarget) -> String {
    match target {
        RevocationTarget::Jti(jti) => format!("jti:{jti}"),
        RevocationTarget::Sub(sub) => format!("sub:{sub}"),
    }
}

fn parse(field: &str, times: &str) -> Option<Revocation> {
    let target = match field.split_once(':')? {
        ("jti", jti) => RevocationTarget::Jti(jti.to_owned()),
        ("sub", sub) => RevocationTarget::Sub(sub.to_owned()),
        _ => return None,
    };
    let (issued, remember) = times.split_once(':')?;
    Some(Revocation { target, issued_until: issued.parse().ok()?, remember_until: remember.parse().ok()? })
}
