//! One replica's authentication and authorisation: the parts of this folder put together.

use std::{sync::Arc, time::Duration};

use crewcast_events::{Channel, Namespaces, timestamp::unix_now};
use crewcast_store::Ownership;
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    AuthError, AuthSetupError, Credential, Identity, OriginPolicy, Verifier, access::Access,
    change_signal::ChangeSignal, claims, directory::DirectoryCache, revocation::Revocations, ticket,
};
use crate::{
    broker::{BrokerError, Control, Registry},
    config::AuthConfig,
};

/// How often revocations and the lists of orgs are read again, lest a control message was lost.
const REREAD: Duration = Duration::from_secs(30);
/// How soon after a failure.
const RETRY: Duration = Duration::from_secs(5);
/// How often every open socket is asked to look again, which shows what the caches have to keep.
const RECOUNT: Duration = Duration::from_secs(600);

/// Tickets that are asked for at the same time: anybody may guess, and each guess holds a connection to the broker.
const REDEMPTIONS: usize = 4;
/// How long a ticket waits for its turn.
const TURN: Duration = Duration::from_secs(5);

/// Answers who somebody is and what he may.
pub struct Auth {
    verifier: Verifier,
    anonymous: Option<Identity>,
    origins: OriginPolicy,
    registry: Arc<dyn Registry>,
    directory: Arc<DirectoryCache>,
    access: Access,
    revocations: Revocations,
    changes: Arc<ChangeSignal>,
    redemptions: Semaphore,
    link_up: Notify,
    tasks: TaskTracker,
}

impl Auth {
    /// # Errors
    /// [`AuthSetupError`], with a text that says what to set, when neither a key nor `auth.anonymous` is there, or
    /// one of the settings is not usable.
    pub fn new(
        config: &AuthConfig,
        namespaces: &Namespaces,
        registry: Arc<dyn Registry>,
    ) -> Result<Arc<Self>, AuthSetupError> {
        let changes = Arc::new(ChangeSignal::new());
        let directory = Arc::new(DirectoryCache::new(registry.clone(), changes.clone()));
        Ok(Arc::new(Self {
            verifier: Verifier::new(config)?,
            anonymous: config.anonymous.as_ref().map(claims::anonymous).transpose()?,
            origins: OriginPolicy::new(&config.allowed_origins, config.development)?,
            registry,
            access: Access::new(namespaces.clone(), directory.clone()),
            directory,
            revocations: Revocations::default(),
            changes,
            redemptions: Semaphore::new(REDEMPTIONS),
            link_up: Notify::new(),
            tasks: TaskTracker::new(),
        }))
    }

    /// Loads revocations and keys, and keeps both and the directory's view fresh until `stop`. Failures are logged
    /// and repaired later: a replica starts also while the broker is away.
    pub async fn start(self: &Arc<Self>, stop: CancellationToken) {
        let loaded = self.reread(false).await;
        if let Err(error) = &loaded {
            tracing::warn!(%error, "cannot load revocations yet");
        }
        if let Some(jwks) = self.verifier.jwks().cloned() {
            jwks.refresh().await;
            let stop = stop.clone();
            self.tasks.spawn(async move { jwks.keep_fresh(stop).await });
        }
        let auth = self.clone();
        let work = async move { auth.keep_fresh(loaded.is_ok()).await };
        self.tasks.spawn(async move { stop.run_until_cancelled(work).await });
        self.tasks.close();
    }

    /// Returns when the tasks that [`Auth::start`] spawned have ended, after its `stop`.
    pub async fn stopped(&self) {
        self.tasks.wait().await;
    }

    async fn keep_fresh(&self, loaded: bool) {
        let mut recounted = Instant::now();
        let mut everything = false;
        let mut wait = if loaded { REREAD } else { RETRY };
        loop {
            tokio::select! {
                () = self.link_up.notified() => everything = true,
                () = tokio::time::sleep(wait) => {}
            }
            match self.reread(everything).await {
                Ok(()) => (everything, wait) = (false, REREAD),
                Err(error) => {
                    tracing::debug!(%error, "cannot read revocations and directory again");
                    wait = RETRY;
                }
            }
            if recounted.elapsed() >= RECOUNT {
                recounted = Instant::now();
                self.directory.forget_unused();
                self.changes.count();
            }
        }
    }

    async fn reread(&self, everything: bool) -> Result<(), BrokerError> {
        let revocations = self.registry.revocations().await?;
        if self.revocations.add(&revocations, unix_now()) {
            self.changes.count();
        }
        if everything { self.directory.reread_all().await } else { self.directory.reread_rosters().await }
    }

    /// The identity that a token stands for.
    ///
    /// # Errors
    /// [`AuthError`]: what is wrong with it, revocation included.
    pub async fn verify(&self, token: &str) -> Result<Identity, AuthError> {
        let identity = self.verifier.verify(token).await?;
        if self.is_revoked(&identity) { Err(AuthError::Revoked) } else { Ok(identity) }
    }

    /// The identity that a credential stands for. Without one: the anonymous identity, or `None` where
    /// `auth.anonymous` is not set, which only public runs and first-message authentication do not refuse.
    /// A ticket is used up by this.
    ///
    /// # Errors
    /// [`AuthError`]. A bad credential is refused even where none would do.
    pub async fn identify(&self, credential: &Credential) -> Result<Option<Identity>, AuthError> {
        match credential {
            Credential::None => Ok(self.anonymous()),
            Credential::QueryTokenOff => Err(AuthError::QueryTokenOff),
            Credential::Token(token) => self.verify(token.expose()).await.map(Some),
            Credential::Ticket(ticket) => {
                let identity = self.redeem(ticket.expose()).await?;
                self.revalidate(&identity).map(|()| Some(identity))
            }
        }
    }

    async fn redeem(&self, ticket: &str) -> Result<Identity, AuthError> {
        if !ticket::is_one(ticket) {
            return Err(AuthError::Ticket);
        }
        let Ok(Ok(_turn)) = timeout(TURN, self.redemptions.acquire()).await else {
            return Err(BrokerError::Unavailable("too many tickets at once".to_owned()).into());
        };
        ticket::redeem(&*self.registry, ticket).await
    }

    /// The identity of the fresh token with which an open socket goes on: the same `sub` and `org` as before.
    ///
    /// # Errors
    /// [`AuthError`], among them `AnotherUser`.
    pub async fn refresh(&self, current: &Identity, token: &str) -> Result<Identity, AuthError> {
        let fresh = self.verify(token).await?;
        let same = !current.anonymous && (&fresh.sub, &fresh.org) == (&current.sub, &current.org);
        if same { Ok(fresh) } else { Err(AuthError::AnotherUser) }
    }

    /// Who comes without a token, if `auth.anonymous` lets him.
    pub fn anonymous(&self) -> Option<Identity> {
        self.anonymous.clone()
    }

    /// Whether the identity's token was revoked, by its `jti` or its `sub`.
    pub fn is_revoked(&self, identity: &Identity) -> bool {
        self.revocations.contain(identity)
    }

    /// Whether an identity may go on: neither expired nor revoked.
    ///
    /// # Errors
    /// [`AuthError::Expired`], [`AuthError::Revoked`].
    pub fn revalidate(&self, identity: &Identity) -> Result<(), AuthError> {
        if identity.expires_at.is_some_and(|expires_at| unix_now() >= expires_at) {
            Err(AuthError::Expired)
        } else if self.is_revoked(identity) {
            Err(AuthError::Revoked)
        } else {
            Ok(())
        }
    }

    /// Whether a page of this origin may connect; `host` is what its browser asked for (`requested_host`).
    pub fn allows_origin(&self, origin: Option<&str>, host: Option<&str>, anonymous: bool) -> bool {
        self.origins.allows(origin, host, anonymous)
    }

    /// A ticket that stands for the identity once, within [`super::TICKET_TTL`].
    ///
    /// # Errors
    /// [`BrokerError`] when it cannot be kept.
    pub async fn issue_ticket(&self, identity: &Identity) -> Result<String, BrokerError> {
        ticket::issue(&*self.registry, identity).await
    }

    /// Whether the identity may read a channel. `auth.public_runs` is for the caller to grant.
    ///
    /// # Errors
    /// [`BrokerError`] when the directory was never asked about this and does not answer.
    pub async fn may_read(&self, identity: &Identity, channel: &Channel) -> Result<bool, BrokerError> {
        self.access.may_read(identity, channel).await
    }

    /// Whether the identity may publish to a channel. With an org, only once what is [owed](Auth::owed) is claimed.
    ///
    /// # Errors
    /// As [`Auth::may_read`].
    pub async fn may_publish(&self, identity: &Identity, channel: &Channel) -> Result<bool, BrokerError> {
        self.access.may_publish(identity, channel).await
    }

    /// The claim with which an id that nobody owns yet becomes the identity's org's, before anything is published
    /// there: an org publishes to its own channels only.
    ///
    /// # Errors
    /// As [`Auth::may_read`].
    pub async fn required_claim(
        &self,
        identity: &Identity,
        channel: &Channel,
    ) -> Result<Option<Ownership>, BrokerError> {
        self.access.required_claim(identity, channel).await
    }

    /// Every channel of a namespace that the identity may read and that can be told beforehand: for a listed claim
    /// the listed ids, for `"*"` those of the org. Not the runs that only their crew makes readable, nor what
    /// `channels` grants by `namespace:*`.
    ///
    /// # Errors
    /// As [`Auth::may_read`].
    pub async fn granted(&self, identity: &Identity, namespace: &str) -> Result<Vec<Channel>, BrokerError> {
        self.access.granted(identity, namespace).await
    }

    /// A message from the control channel. Does not block.
    pub fn on_control(&self, control: &Control) {
        match control {
            Control::Revoked(revocation) => {
                if self.revocations.add(std::slice::from_ref(revocation), unix_now()) {
                    self.changes.count();
                }
            }
            Control::Directory { ownership, from, removed } => {
                self.directory.apply_control(ownership, from.as_deref(), *removed)
            }
            Control::Client { .. } => {}
        }
    }

    /// The link to the broker is back: control messages may have been lost. Does not block.
    pub fn on_link_up(&self) {
        self.link_up.notify_one();
    }

    /// Counts up whenever the directory's view or the revocations changed, and every ten minutes: an open socket
    /// then asks `granted`, `may_read` and `revalidate` again.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
mod tests;
