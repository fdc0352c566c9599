//! Claims: the entry in one atomic step, then what follows from it, each part harmless to repeat.

use std::{sync::LazyLock, time::Duration};

use crewcast_events::{Channel, Kind, timestamp};
use redis::Script;

use super::RedisTransport;
use crate::{
    append::AppendError,
    ownership::{Claim, ClaimMode, Claimed},
    scripts,
};

/// How long runs and sessions stay in the directory after their last registration: a day longer than a
/// channel's head stands beyond a day's log.
pub const DIRECTORY_AGE: Duration = Duration::from_secs(31 * 24 * 3600);

static CLAIM: LazyLock<Script> = LazyLock::new(|| Script::new(scripts::OWNERSHIP));

/// The message on the control channel that tells every gateway.
#[derive(serde::Serialize)]
struct Changed<'a> {
    kind: &'static str,
    claim: &'a Claim,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    removed: bool,
}

/// What the script says of an entry.
enum Decided {
    /// Another org's.
    Owned(String),
    /// Not forgotten, since its owner has claimed it again.
    Kept,
    /// With the crew as the directory has it.
    Done(Option<String>, Pending),
}

/// What the entry still owes to the rest of the directory.
#[derive(PartialEq, Eq)]
enum Pending {
    Nothing,
    Word,
    Removal,
    Move(String),
}

impl RedisTransport {
    pub(super) async fn claim_id(&self, claim: &Claim, mode: ClaimMode) -> Result<Claimed, AppendError> {
        check(claim)?;
        let mode_name = match mode {
            ClaimMode::Keep => "keep",
            ClaimMode::Move => "move",
            ClaimMode::Remove => "remove",
        };
        let (crew, pending) = match self.decide(claim, mode_name).await? {
            Decided::Owned(org) => return Ok(Claimed::OwnedBy(org)),
            Decided::Kept => return Ok(Claimed::Done),
            Decided::Done(crew, pending) => (crew, pending),
        };
        // The claim as the directory has it now.
        let claim = Claim { crew, ..claim.clone() };
        if mode == ClaimMode::Remove {
            self.follow_removal(&claim, pending).await?;
        } else {
            self.follow(&claim, pending).await?;
        }
        Ok(Claimed::Done)
    }

    /// One step of the script.
    async fn decide(&self, claim: &Claim, mode: &str) -> Result<Decided, AppendError> {
        let mut call = CLAIM.key(self.keys.directory_entry(claim.kind, &claim.id));
        call.arg(mode).arg(&claim.org).arg(claim.crew.as_deref().unwrap_or(""));
        call.arg(age_of(claim.kind).map_or(0, |age| age.as_secs()));
        let answer: Vec<String> = self.invoke(&call).await?;
        match answer.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["owned", org] => Ok(Decided::Owned((*org).to_owned())),
            ["kept"] => Ok(Decided::Kept),
            ["done", crew, pending] => {
                Ok(Decided::Done(Some((*crew).to_owned()).filter(|crew| !crew.is_empty()), parse_pending(pending)))
            }
            _ => Err(AppendError::Unavailable("the script's answer is not understood".to_owned())),
        }
    }

    /// What an owner leaves behind in the channels that the id names. Heads stay: they tell readers what they miss.
    fn drop_events(&self, claim: &Claim, pipeline: &mut redis::Pipeline) {
        for channel in self.namespaces.channels_of(claim.kind, &claim.id) {
            pipeline.del(self.keys.log(&channel)).ignore();
            pipeline.del(self.keys.retained(&channel)).ignore();
            pipeline.del(self.keys.state(&channel)).ignore();
            pipeline.del(self.keys.leases(&channel)).ignore();
            pipeline.del(self.keys.due(&channel)).ignore();
        }
    }

    async fn follow(&self, claim: &Claim, pending: Pending) -> Result<(), AppendError> {
        let now = timestamp::unix_now();
        let ids = self.keys.directory_of_org(&claim.org, claim.kind);
        let mut pipeline = redis::pipe();
        if let Pending::Move(from) = &pending {
            // The former owner's events go before anybody is told that the new one may read.
            self.drop_events(claim, &mut pipeline);
            pipeline.zrem(self.keys.directory_of_org(from, claim.kind), &claim.id).ignore();
        }
        pipeline.zadd(&ids, &claim.id, now).ignore();
        if let Some(age) = age_of(claim.kind) {
            let oldest = now.saturating_sub(age.as_secs());
            pipeline.cmd("ZREMRANGEBYSCORE").arg(&ids).arg("-inf").arg(format!("({oldest}")).ignore();
        }
        let from = match &pending {
            Pending::Nothing => return self.run(&pipeline).await,
            Pending::Word | Pending::Removal => None,
            Pending::Move(from) => Some(from.as_str()),
        };
        pipeline.publish(self.keys.control(), control(claim, from, false)?).ignore();
        self.run::<()>(&pipeline).await?;
        // Not in the pipeline: what is owed is forgotten only when all of it is done.
        let mut forget = redis::pipe();
        forget.hdel(self.keys.directory_entry(claim.kind, &claim.id), "pending").ignore();
        self.run(&forget).await
    }

    async fn follow_removal(&self, claim: &Claim, mut pending: Pending) -> Result<(), AppendError> {
        if pending == Pending::Removal {
            // The owner's events go before anybody else can claim the id, and so read it.
            let mut pipeline = redis::pipe();
            self.drop_events(claim, &mut pipeline);
            self.run::<()>(&pipeline).await?;
            pending = match self.decide(claim, "forget").await? {
                Decided::Done(_, pending) => pending,
                // Claimed again meanwhile, by this org or, behind a removal that overtook this one, by another.
                Decided::Kept | Decided::Owned(_) => return Ok(()),
            };
        }
        let ids = self.keys.directory_of_org(&claim.org, claim.kind);
        let mut listed = redis::pipe();
        listed.zscore(&ids, &claim.id);
        let (score,): (Option<f64>,) = self.run(&listed).await?;
        // An id that is still listed was removed by somebody who did not come as far as telling.
        if score.is_none() && pending == Pending::Nothing {
            return Ok(());
        }
        let mut pipeline = redis::pipe();
        pipeline.publish(self.keys.control(), control(claim, None, true)?).ignore();
        pipeline.zrem(&ids, &claim.id).ignore();
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
        None => Pending::Word,
    }
}

fn control(claim: &Claim, from: Option<&str>, removed: bool) -> Result<String, AppendError> {
    serde_json::to_string(&Changed { kind: "directory", claim, from, removed })
        .map_err(|error| AppendError::Refused(error.to_string()))
}

fn check(claim: &Claim) -> Result<(), AppendError> {
    let kind = claim.kind.as_str();
    for (what, id) in [(kind, &claim.id), ("org", &claim.org)].into_iter().chain(claim.crew.iter().map(|c| ("crew", c)))
    {
        Channel::new(kind, id).map_err(|error| AppendError::Refused(format!("{what}: {error}")))?;
    }
    Ok(())
}
