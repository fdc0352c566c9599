//! Directory, revocations and tickets in Redis.

use std::{collections::HashMap, sync::LazyLock, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use crewcast_events::{Keys, Kind};
use crewcast_publisher::Claim;
use deadpool_redis::Pool;
use redis::{AsyncCommands, FromRedisValue, Pipeline, Script};

use super::{errors, server};
use crate::{
    broker::{BrokerError, Control, Registry, Revocation, RevocationTarget, unix_now},
    config::BrokerConfig,
};

/// Ids in one pipeline.
const OWNERS: usize = 1000;

static REVOKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("revoke.lua")));

/// The registry in Redis. Needs no subscription, so that the command line uses it on its own.
#[derive(Clone)]
pub struct RedisRegistry {
    pool: Pool,
    keys: Keys,
}

impl RedisRegistry {
    /// The registry behind a pool.
    pub fn new(pool: Pool, keys: Keys) -> Self {
        Self { pool, keys }
    }

    /// The registry of the configured broker.
    ///
    /// # Errors
    /// [`BrokerError::Protocol`] when `broker.url` is none.
    pub fn of(config: &BrokerConfig) -> Result<Self, BrokerError> {
        Ok(Self::new(server::pool(&config.url, 1)?, Keys::new(&config.key_prefix)))
    }

    async fn run<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, BrokerError> {
        let mut connection = server::connection(&self.pool).await?;
        pipeline.query_async(&mut connection).await.map_err(|error| errors::of_redis(&error))
    }
}

#[async_trait]
impl Registry for RedisRegistry {
    async fn owners(&self, kind: Kind, ids: &[String]) -> Result<HashMap<String, Claim>, BrokerError> {
        let mut claims = HashMap::new();
        for chunk in ids.chunks(OWNERS) {
            let mut pipeline = redis::pipe();
            for id in chunk {
                pipeline.cmd("HMGET").arg(self.keys.directory_entry(kind, id)).arg("org").arg("crew");
            }
            let entries: Vec<(Option<String>, Option<String>)> = self.run(&pipeline).await?;
            for (id, (org, crew)) in chunk.iter().zip(entries) {
                if let Some(org) = org {
                    let crew = crew.filter(|crew| !crew.is_empty());
                    claims.insert(id.clone(), Claim { kind, id: id.clone(), org, crew });
                }
            }
        }
        Ok(claims)
    }

    async fn owned(&self, org: &str, kind: Kind) -> Result<Vec<String>, BrokerError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("ZRANGE").arg(self.keys.directory_of_org(org, kind)).arg(0).arg(-1);
        let (mut ids,): (Vec<String>,) = self.run(&pipeline).await?;
        // The list follows the entries and may be behind: only an entry says whose an id is.
        let owners = self.owners(kind, &ids).await?;
        ids.retain(|id| owners.get(id).is_some_and(|claim| claim.org == org));
        Ok(ids)
    }

    async fn revoke(&self, revocation: &Revocation) -> Result<(), BrokerError> {
        let message = serde_json::to_string(&Control::Revoked(revocation.clone()))
            .map_err(|error| BrokerError::Protocol(error.to_string()))?;
        let mut call = REVOKE.key(self.keys.revocations());
        call.arg(field(&revocation.target)).arg(revocation.issued_until).arg(revocation.remember_until);
        call.arg(unix_now()).arg(self.keys.control()).arg(message);
        let mut connection = server::connection(&self.pool).await?;
        call.invoke_async(&mut connection).await.map_err(|error| errors::of_redis(&error))
    }

    async fn revocations(&self) -> Result<Vec<Revocation>, BrokerError> {
        let mut pipeline = redis::pipe();
        pipeline.hgetall(self.keys.revocations());
        let (all,): (HashMap<String, String>,) = self.run(&pipeline).await?;
        let now = unix_now();
        let known = all.iter().filter_map(|(field, times)| parse(field, times));
        Ok(known.filter(|revocation| revocation.remember_until >= now).collect())
    }

    async fn put_ticket(&self, ticket: &str, content: Bytes, ttl: Duration) -> Result<(), BrokerError> {
        let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut connection = server::connection(&self.pool).await?;
        let put: Result<(), _> = connection.pset_ex(self.keys.ticket(ticket), &content[..], millis).await;
        put.map_err(|error| errors::of_redis(&error))
    }

    async fn take_ticket(&self, ticket: &str) -> Result<Option<Bytes>, BrokerError> {
        let mut connection = server::connection(&self.pool).await?;
        let taken: Result<Option<Vec<u8>>, _> = connection.get_del(self.keys.ticket(ticket)).await;
        taken.map(|content| content.map(Bytes::from)).map_err(|error| errors::of_redis(&error))
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
