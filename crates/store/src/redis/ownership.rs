//! Ownership of ids: the directory entry in one atomic step, then its consequences, each of them safe to repeat.

use std::{sync::LazyLock, time::Duration};

use crewcast_events::{Channel, Kind, timestamp};
use redis::Script;

use super::RedisTransport;
use crate::{
    append::AppendError,
    ownership::{Ownership, OwnershipMode, OwnershipOutcome},
    scripts,
};

/// How long runs and sessions stay in the directory after their last registration: one day longer than the head of a
/// channel whose log is kept for a day.
pub const DIRECTORY_AGE: Duration = Duration::from_secs(31 * 24 * 3600);

static OWNERSHIP: LazyLock<Script> = LazyLock::new(|| Script::new(scripts::OWNERSHIP));

/// The message to every gateway on the control channel.
#[derive(serde::Serialize)]
struct DirectoryMessage<'a> {
    kind: &'static str,
    #[serde(rename = "claim")]
    ownership: &'a Ownership,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    removed: bool,
}

/// The script's answer.
enum Decision {
    /// Another org owns the id.
    Owned(String),
    /// Not forgotten: the owner has registered the id again.
    Kept,
    /// Done, with the crew that the directory has.
    Done(Option<String>, Pending),
}

/// What remains to be done for the entry.
#[derive(PartialEq, Eq)]
enum Pending {
    Nothing,
    Notice,
    Removal,
    Move(String),
}

impl RedisTransport {
    pub(super) async fn register_id(
        &self,
        ownership: &Ownership,
        mode: OwnershipMode,
    ) -> Result<OwnershipOutcome, AppendError> {
        check(ownership)?;
        let mode_name = match mode {
            OwnershipMode::Keep => "keep",
            OwnershipMode::Move => "move",
            OwnershipMode::Remove => "remove",
        };
        let (crew, pending) = match self.decide(ownership, mode_name).await? {
            Decision::Owned(org) => return Ok(OwnershipOutcome::OwnedBy(org)),
            Decision::Kept => return Ok(OwnershipOutcome::Done),
            Decision::Done(crew, pending) => (crew, pending),
        };
        // The ownership as the directory has it now.
        let ownership = Ownership { crew, ..ownership.clone() };
        if mode == OwnershipMode::Remove {
            self.complete_removal(&ownership, pending).await?;
        } else {
            self.complete(&ownership, pending).await?;
        }
        Ok(OwnershipOutcome::Done)
    }

    /// Runs one step of the script.
    async fn decide(&self, ownership: &Ownership, mode: &str) -> Result<Decision, AppendError> {
        let mut call = OWNERSHIP.key(self.keys.directory_entry(ownership.kind, &ownership.id));
        call.arg(mode).arg(&ownership.org).arg(ownership.crew.as_deref().unwrap_or(""));
        call.arg(age_of(ownership.kind).map_or(0, |age| age.as_secs()));
        let answer: Vec<String> = self.invoke(&call).await?;
        match answer.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["owned", org] => Ok(Decision::Owned((*org).to_owned())),
            ["kept"] => Ok(Decision::Kept),
            ["done", crew, pending] => {
                Ok(Decision::Done(Some((*crew).to_owned()).filter(|crew| !crew.is_empty()), parse_pending(pending)))
            }
            _ => Err(AppendError::Unavailable("the script's answer is not understood".to_owned())),
        }
    }

    /// Drops the former owner's events in the channels of the id. Heads stay: they tell readers what they miss.
    fn drop_events(&self, ownership: &Ownership, pipeline: &mut redis::Pipeline) {
        for channel in self.namespaces.channels_of(ownership.kind, &ownership.id) {
            pipeline.del(self.keys.log(&channel)).ignore();
            pipeline.del(self.keys.retained(&channel)).ignore();
            pipeline.del(self.keys.state(&channel)).ignore();
            pipeline.del(self.keys.leases(&channel)).ignore();
            pipeline.del(self.keys.due(&channel)).ignore();
            // The lines that live events left in a session.
            pipeline.del(self.keys.live_lines(&channel, channel.namespace())).ignore();
        }
    }

    async fn complete(&self, ownership: &Ownership, pending: Pending) -> Result<(), AppendError> {
        let now = timestamp::unix_now();
        let ids = self.keys.directory_of_org(&ownership.org, ownership.kind);
        let mut pipeline = redis::pipe();
        if let Pending::Move(from) = &pending {
            // The former owner's events go before any gateway learns that the new owner may read.
            self.drop_events(ownership, &mut pipeline);
            pipeline.zrem(self.keys.directory_of_org(from, ownership.kind), &ownership.id).ignore();
        }
        pipeline.zadd(&ids, &ownership.id, now).ignore();
        if let Some(age) = age_of(ownership.kind) {
            let oldest = now.saturating_sub(age.as_secs());
            pipeline.cmd("ZREMRANGEBYSCORE").arg(&ids).arg("-inf").arg(format!("({oldest}")).ignore();
        }
        let from = match &pending {
            Pending::Nothing => return self.run(&pipeline).await,
            Pending::Notice | Pending::Removal => None,
            Pending::Move(from) => Some(from.as_str()),
        };
        pipeline.publish(self.keys.control(), control(ownership, from, false)?).ignore();
        self.run::<()>(&pipeline).await?;
        // Not in the pipeline: the mark goes only when everything is done.
        let mut forget = redis::pipe();
        forget.hdel(self.keys.directory_entry(ownership.kind, &ownership.id), "pending").ignore();
        self.run(&forget).await
    }

    async fn complete_removal(&self, ownership: &Ownership, mut pending: Pending) -> Result<(), AppendError> {
        if pending == Pending::Removal {
            // The owner's events go before another org can register the id and read it.
            let mut pipeline = redis::pipe();
            self.drop_events(ownership, &mut pipeline);
            self.run::<()>(&pipeline).await?;
            pending = match self.decide(ownership, "forget").await? {
                Decision::Done(_, pending) => pending,
                // The id was registered again meanwhile: by this org, or by another after a removal that overtook this
                // one.
                Decision::Kept | Decision::Owned(_) => return Ok(()),
            };
        }
        let ids = self.keys.directory_of_org(&ownership.org, ownership.kind);
        let mut listed = redis::pipe();
        listed.zscore(&ids, &ownership.id);
        let (score,): (Option<f64>,) = self.run(&listed).await?;
        // An id that is still listed was removed without the message: that removal was cut short.
        if score.is_none() && pending == Pending::Nothing {
            return Ok(());
        }
        let mut pipeline = redis::pipe();
        pipeline.publish(self.keys.control(), control(ownership, None, true)?).ignore();
        pipeline.zrem(&ids, &ownership.id).ignore();
        self.run(&pipeline).await
    }
}

fn age_of(kind: Kind) -> Option<Duration> {
    matches!(kind, Kind::Run | Kind::Session).then_some(DIRECTORY_AGE)
}

fn parse_pending(text: &str) -> Pending {
    match text.strip_prefix("from:") {
        Some(org) => Pending::Move(org.to_owned()),
        None if text == "no" => Pending::Nothing,
        None if text == "removing" => Pending::Removal,
        None => Pending::Notice,
    }
}

fn control(ownership: &Ownership, from: Option<&str>, removed: bool) -> Result<String, AppendError> {
    serde_json::to_string(&DirectoryMessage { kind: "directory", ownership, from, removed })
        .map_err(|error| AppendError::Refused(error.to_string()))
}

fn check(ownership: &Ownership) -> Result<(), AppendError> {
    let kind = ownership.kind.as_str();
    for (what, id) in
        [(kind, &ownership.id), ("org", &ownership.org)].into_iter().chain(ownership.crew.iter().map(|c| ("crew", c)))
    {
        Channel::new(kind, id).map_err(|error| AppendError::Refused(format!("{what}: {error}")))?;
    }
    Ok(())
}
