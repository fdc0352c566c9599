//! The authentication and authorisation of one replica: puts the parts of this folder together.

use std::{sync::Arc, time::Duration};

use crewcast_events::{Channel, Kind, Namespaces, timestamp::unix_now};
use crewcast_store::Ownership;
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    AuthError, AuthSetupError, Credential, Identity, Verifier,
    access::{Access, Grant},
    change_signal::ChangeSignal,
    claims,
    directory::DirectoryCache,
    revocation::RevocationSet,
    ticket,
};
use crate::{
    config::AuthConfig,
    registry::{BrokerError, Control, Directory, Revocations, Tickets},
};

/// How often revocations and the lists of orgs are read again, in case a control message was lost.
const REREAD: Duration = Duration::from_secs(30);
/// How soon to try again after a failure.
const RETRY: Duration = Duration::from_secs(5);
/// How often every open socket checks its grants again. These checks mark the cache entries that are still in use.
const RECOUNT: Duration = Duration::from_secs(600);

/// Tickets that are redeemed at the same time. Anyone may guess tickets, and each guess holds a connection to the
/// broker.
const REDEMPTIONS: usize = 4;
/// How long a redemption waits for its turn.
const TURN: Duration = Duration::from_secs(5);

/// Answers which identity a credential stands for and what it may do.
pub(crate) struct Auth {
    verifier: Verifier,
    anonymous: Option<Identity>,
    stored_revocations: Arc<dyn Revocations>,
    tickets: Arc<dyn Tickets>,
    directory: Arc<DirectoryCache>,
    access: Access,
    revocations: RevocationSet,
    changes: Arc<ChangeSignal>,
    redemptions: Semaphore,
    link_up: Notify,
    tasks: TaskTracker,
}

impl Auth {
    /// Creates the service from its configuration.
    ///
    /// # Errors
    /// [`AuthSetupError`] if there is neither a key nor `auth.anonymous`, or if a setting is invalid. Its text says
    /// what to set.
    pub(crate) fn new(
        config: &AuthConfig,
        namespaces: &Namespaces,
        directory: Arc<dyn Directory>,
        revocations: Arc<dyn Revocations>,
        tickets: Arc<dyn Tickets>,
    ) -> Result<Arc<Self>, AuthSetupError> {
        let changes = Arc::new(ChangeSignal::new());
        let directory = Arc::new(DirectoryCache::new(directory, changes.clone()));
        Ok(Arc::new(Self {
            verifier: Verifier::new(config)?,
            anonymous: config.anonymous.as_ref().map(claims::anonymous).transpose()?,
            stored_revocations: revocations,
            tickets,
            access: Access::new(namespaces.clone(), directory.clone()),
            directory,
            revocations: RevocationSet::default(),
            changes,
            redemptions: Semaphore::new(REDEMPTIONS),
            link_up: Notify::new(),
            tasks: TaskTracker::new(),
        }))
    }

    /// Loads revocations and keys, and keeps both and the directory's view fresh until `stop`. Failures are logged and
    /// retried: a replica starts even while the broker is down.
    pub(crate) async fn start(self: &Arc<Self>, stop: CancellationToken) {
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

    /// Returns when the tasks of [`Auth::start`] have ended after its `stop`.
    pub(crate) async fn stopped(&self) {
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
        let revocations = self.stored_revocations.revocations().await?;
        if self.revocations.add(&revocations, unix_now()) {
            self.changes.count();
        }
        if everything { self.directory.reread_all().await } else { self.directory.reread_rosters().await }
    }

    /// Verifies a token and returns its identity.
    ///
    /// # Errors
    /// [`AuthError`]: what is wrong with it, revocation included.
    pub(crate) async fn verify(&self, token: &str) -> Result<Identity, AuthError> {
        let identity = self.verifier.verify(token).await?;
        if self.is_revoked(&identity) { Err(AuthError::Revoked) } else { Ok(identity) }
    }

    /// The identity that a credential stands for. Without a credential: the anonymous identity, or `None` if
    /// `auth.anonymous` is not set. Only public runs and first-message authentication accept `None`. A ticket is used
    /// up.
    ///
    /// # Errors
    /// [`AuthError`]. An invalid credential is refused even where no credential is needed.
    pub(crate) async fn identify(&self, credential: &Credential) -> Result<Option<Identity>, AuthError> {
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
        ticket::redeem(&*self.tickets, ticket).await
    }

    /// Verifies a fresh token for an open socket. It must have the same `sub` and `org` as before.
    ///
    /// # Errors
    /// [`AuthError`], among them `AnotherUser`.
    pub(crate) async fn refresh(&self, current: &Identity, token: &str) -> Result<Identity, AuthError> {
        let fresh = self.verify(token).await?;
        let same = !current.anonymous && (&fresh.sub, &fresh.org) == (&current.sub, &current.org);
        if same { Ok(fresh) } else { Err(AuthError::AnotherUser) }
    }

    /// The identity of connections without a token, if `auth.anonymous` is set.
    pub(crate) fn anonymous(&self) -> Option<Identity> {
        self.anonymous.clone()
    }

    /// Whether the identity's token was revoked, by its `jti` or its `sub`.
    pub(crate) fn is_revoked(&self, identity: &Identity) -> bool {
        self.revocations.contain(identity)
    }

    /// Checks that an identity is neither expired nor revoked.
    ///
    /// # Errors
    /// [`AuthError::Expired`], [`AuthError::Revoked`].
    pub(crate) fn revalidate(&self, identity: &Identity) -> Result<(), AuthError> {
        if identity.expires_at.is_some_and(|expires_at| unix_now() >= expires_at) {
            Err(AuthError::Expired)
        } else if self.is_revoked(identity) {
            Err(AuthError::Revoked)
        } else {
            Ok(())
        }
    }

    /// Issues a ticket that stands for the identity once, within [`super::TICKET_TTL`].
    ///
    /// # Errors
    /// [`BrokerError`] if it cannot be stored.
    pub(crate) async fn issue_ticket(&self, identity: &Identity) -> Result<String, BrokerError> {
        ticket::issue(&*self.tickets, identity).await
    }

    /// Sets the org that reads and adopts ids without an owner. Call it once, before anybody asks.
    pub(crate) fn set_adopter(&self, adopter: Option<String>) {
        self.access.set_adopter(adopter);
    }

    /// Those of the channels, listed before, whose ids have no owner and are the adopter's until they get one. Empty
    /// without an adopter.
    ///
    /// # Errors
    /// As [`Auth::grant`].
    pub(crate) async fn still_granted(
        &self,
        identity: &Identity,
        listed: Vec<Channel>,
    ) -> Result<Vec<Channel>, BrokerError> {
        let mut kept = Vec::new();
        if self.access.has_adopter() {
            for channel in listed {
                if self.may_read(identity, &channel).await? {
                    kept.push(channel);
                }
            }
        }
        Ok(kept)
    }

    /// Whether the identity may read a channel, or may come to. The caller applies `auth.public_runs`.
    ///
    /// # Errors
    /// [`BrokerError`] if the answer is not cached and the directory does not answer.
    pub(crate) async fn grant(&self, identity: &Identity, channel: &Channel) -> Result<Grant, BrokerError> {
        self.access.grant(identity, channel).await
    }

    /// Whether the identity may read a channel now.
    ///
    /// # Errors
    /// As [`Auth::grant`].
    pub(crate) async fn may_read(&self, identity: &Identity, channel: &Channel) -> Result<bool, BrokerError> {
        Ok(self.grant(identity, channel).await? == Grant::Granted)
    }

    /// The owner of an id; `None` if no org owns it.
    ///
    /// # Errors
    /// As [`Auth::grant`].
    pub(crate) async fn owner(&self, kind: Kind, id: &str) -> Result<Option<Ownership>, BrokerError> {
        self.directory.owner(kind, id).await
    }

    /// Every id of one kind that an org owns, sorted.
    ///
    /// # Errors
    /// As [`Auth::grant`].
    pub(crate) async fn ids_of_org(&self, org: &str, kind: Kind) -> Result<Vec<String>, BrokerError> {
        self.directory.ids_of_org(org, kind).await
    }

    /// Whether the identity may publish to a channel. With an org, the caller first has to make the [required
    /// claim](Auth::required_claim) of ownership.
    ///
    /// # Errors
    /// As [`Auth::grant`].
    pub(crate) async fn may_publish(&self, identity: &Identity, channel: &Channel) -> Result<bool, BrokerError> {
        self.access.may_publish(identity, channel).await
    }

    /// The claim that gives an id without an owner to the identity's org. It comes before the first publish, because
    /// an org publishes to its own channels only.
    ///
    /// # Errors
    /// As [`Auth::grant`].
    pub(crate) async fn required_claim(
        &self,
        identity: &Identity,
        channel: &Channel,
    ) -> Result<Option<Ownership>, BrokerError> {
        self.access.required_claim(identity, channel).await
    }

    /// Every readable channel of a namespace that can be listed in advance: for a listed claim the listed ids, for
    /// `"*"` those of the org. Not included: runs that are readable only through their crew, and channels that
    /// `channels` grants by `namespace:*`.
    ///
    /// # Errors
    /// As [`Auth::grant`].
    pub(crate) async fn granted(&self, identity: &Identity, namespace: &str) -> Result<Vec<Channel>, BrokerError> {
        self.access.granted(identity, namespace).await
    }

    /// Applies a message of the control channel. Does not block.
    pub(crate) fn on_control(&self, control: &Control) {
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
    pub(crate) fn on_link_up(&self) {
        self.link_up.notify_one();
    }

    /// Counts up whenever the directory's view or the revocations changed, and every ten minutes. Open sockets then
    /// call `granted`, `may_read` and `revalidate` again.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
mod tests;
