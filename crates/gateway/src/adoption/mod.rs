//! Adoption: ids that events bring up get an owner.
//!
//! In every deployment, a run that an event of a registered crew names becomes that crew's. `crew_watch.rs` has the
//! events of an org's crews read while a socket waits for a run. With `directory.adopt`, an id without an owner becomes
//! the default org's with the first event in one of its channels. `new_channels.rs` keeps the first events until the
//! sockets that read every id have listed the new one.

mod crew_watch;
mod new_channels;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use crewcast_events::{Channel, Event, Field, Kind, Namespaces, Owner, is_id};
use crewcast_store::{Ownership, OwnershipMode, OwnershipOutcome, Transport};
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::{sync::mpsc, time::Instant};

pub(crate) use self::crew_watch::{CrewWatch, CrewWatches};
use self::new_channels::NewChannels;
use crate::{
    auth::Auth,
    hub::Hub,
    registry::BrokerError,
    relay::{FirstEvents, Sightings},
    telemetry::metrics::{Metric, counter},
    util::log_throttle,
};

/// Ids that wait to be looked up. More are dropped: their next event brings them up again.
const QUEUE: usize = 65_536;
/// Ids that are looked up at the same time.
const AT_ONCE: usize = 32;
/// How long a run that was named is not looked up again.
const SETTLED: Duration = Duration::from_secs(5);
/// Runs that are remembered for that, and channels whose ids are known to have an owner. Beyond it, all are forgotten.
const MAX_KNOWN: usize = 65_536;

/// An id that an event brought up.
enum Sighting {
    /// An event was published to this channel.
    Channel(Channel),
    /// An event of this crew named this run.
    Run { crew: String, run: String },
}

/// Registers owners.
pub(crate) struct Adoption {
    auth: Arc<Auth>,
    transport: Arc<dyn Transport>,
    hub: Arc<Hub>,
    namespaces: Namespaces,
    /// The org that adopts ids without an owner.
    adopter: Option<String>,
    queue: mpsc::Sender<Sighting>,
    runs: Mutex<HashMap<String, Instant>>,
    /// Channels whose ids have an owner.
    owned: Mutex<HashSet<String>>,
    new: Mutex<NewChannels>,
}

/// The sightings that [`Adoption::serve`] works through.
pub(crate) struct WaitingSightings(mpsc::Receiver<Sighting>);

impl Adoption {
    /// An adoption of runs by their crews, and of everything by `adopter`.
    pub(crate) fn new(
        auth: Arc<Auth>,
        transport: Arc<dyn Transport>,
        hub: Arc<Hub>,
        namespaces: Namespaces,
        adopter: Option<String>,
    ) -> (Arc<Self>, WaitingSightings) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let (runs, owned, new) = Default::default();
        let adoption = Self { auth, transport, hub, namespaces, adopter, queue, runs, owned, new };
        (Arc::new(adoption), WaitingSightings(waiting))
    }

    /// Looks ids up and registers those without an owner. Never returns.
    pub(crate) async fn serve(self: Arc<Self>, mut sightings: WaitingSightings) {
        let sightings = stream::poll_fn(|cx| sightings.0.poll_recv(cx));
        sightings.for_each_concurrent(AT_ONCE, |sighting| self.look_up(sighting)).await;
    }

    async fn look_up(&self, sighting: Sighting) {
        match sighting {
            Sighting::Channel(channel) => self.adopt(&channel).await,
            Sighting::Run { crew, run } => self.adopt_run(&crew, run).await,
        }
    }

    async fn adopt(&self, channel: &Channel) {
        let Some((org, kind)) = self.adopter.as_ref().zip(self.kind_of(channel)) else { return };
        let adopted = match self.auth.owner(kind, channel.id()).await {
            Ok(None) => self.register(kind, channel.id().to_owned(), org.clone(), None).await,
            known => known.map(|_| ()),
        };
        match adopted {
            Ok(()) => self.is_owned(channel),
            Err(error) => {
                tracing::debug!(%error, %channel, "cannot adopt an id; its next event tries again");
                self.new.lock().failed(channel);
            }
        }
    }

    fn is_owned(&self, channel: &Channel) {
        let mut owned = self.owned.lock();
        if owned.len() >= MAX_KNOWN {
            owned.clear();
        }
        owned.insert(channel.as_str().to_owned());
    }

    async fn adopt_run(&self, crew: &str, run: String) {
        if let Err(error) = self.try_adopt_run(crew, &run).await {
            tracing::debug!(%error, run, "cannot adopt a run; the next event that names it tries again");
            self.runs.lock().remove(&run);
        }
    }

    async fn try_adopt_run(&self, crew: &str, run: &str) -> Result<(), BrokerError> {
        // A crew that is adopted itself may not be registered yet.
        let crew_owner = self.auth.owner(Kind::Crew, crew).await?.map(|owner| owner.org);
        let Some(org) = crew_owner.or_else(|| self.adopter.clone()) else { return Ok(()) };
        let is_free = match self.auth.owner(Kind::Run, run).await? {
            None => true,
            // It was adopted with an event of its own. One that somebody has registered keeps its readers.
            Some(owner) => owner.crew.is_none() && owner.org == org && self.adopter.as_ref() == Some(&org),
        };
        if is_free {
            self.register(Kind::Run, run.to_owned(), org, Some(crew.to_owned())).await?;
        }
        Ok(())
    }

    async fn register(&self, kind: Kind, id: String, org: String, crew: Option<String>) -> Result<(), BrokerError> {
        let ownership = Ownership { kind, id, org, crew };
        let registered = self.transport.register(&ownership, OwnershipMode::Keep).await;
        if registered.map_err(|error| BrokerError::Unavailable(error.to_string()))? == OwnershipOutcome::Done {
            counter(Metric::IdsAdopted, &[("kind", kind.as_str())]).increment(1);
            tracing::debug!(kind = kind.as_str(), id = ownership.id, org = ownership.org, "adopted an id");
        }
        Ok(())
    }

    /// An id has lost its owner, or got another one.
    pub(crate) fn owner_changed(&self, kind: Kind, id: &str) {
        let mut owned = self.owned.lock();
        self.namespaces.channels_of(kind, id).for_each(|channel| _ = owned.remove(channel.as_str()));
    }

    /// The link to the broker is back: owners may have changed unheard.
    pub(crate) fn on_link_up(&self) {
        self.owned.lock().clear();
    }

    fn kind_of(&self, channel: &Channel) -> Option<Kind> {
        self.namespaces.of(channel)?.owner.and_then(Owner::kind)
    }

    /// Holds a channel that this replica hears of for the first time, and has its owner looked up.
    fn sight(&self, channel: Channel, event: Event) {
        let is_held = self.new.lock().begin(&channel, event, || self.hub.hold(&channel));
        if !is_held {
            log_throttle::once_a_minute("new_ids", || {
                tracing::warn!(%channel, "too many new ids at once: the first events of some reach named sockets only");
            });
        }
        self.queue_channel(channel);
    }

    fn queue_channel(&self, channel: Channel) {
        if let Err(refused) = self.queue.try_send(Sighting::Channel(channel))
            && let Sighting::Channel(channel) = refused.into_inner()
        {
            self.new.lock().failed(&channel);
        }
    }
}

impl Sightings for Adoption {
    fn run_named(&self, crew: &str, run: &str) {
        let now = Instant::now();
        let mut runs = self.runs.lock();
        if !is_id(run) || runs.get(run).is_some_and(|until| now < *until) {
            return;
        }
        if runs.len() >= MAX_KNOWN {
            runs.clear();
        }
        if self.queue.try_send(Sighting::Run { crew: crew.to_owned(), run: run.to_owned() }).is_ok() {
            runs.insert(run.to_owned(), now + SETTLED);
        }
    }

    fn overheard(&self, name: &str, message: &Bytes) {
        if self.adopter.is_none() {
            return;
        }
        let event = || Event::parse(message.clone()).ok();
        if self.owned.lock().contains(name) {
            return self.name_run(name, event);
        }
        let heard = self.new.lock().heard(name, event);
        match heard {
            Some(false) => {}
            Some(true) => _ = name.parse().map(|channel| self.queue_channel(channel)),
            None => {
                let channel = name.parse::<Channel>().ok().filter(|channel| self.kind_of(channel).is_some());
                if let Some((channel, event)) = channel.zip(event()) {
                    self.sight(channel, event);
                }
            }
        }
        self.name_run(name, event);
    }

    fn first_events(&self, channel: &Channel) -> FirstEvents {
        if self.adopter.is_none() { FirstEvents::default() } else { self.new.lock().take(channel) }
    }
}

impl Adoption {
    /// Nobody on this replica may read a crew whose event names a run.
    fn name_run(&self, name: &str, event: impl Fn() -> Option<Event>) {
        let Some((namespace, crew)) = name.split_once(':') else { return };
        if self.namespaces.0.get(namespace).is_some_and(|rules| rules.owner == Some(Owner::Crew))
            && let Some(event) = event()
            && let Some(run) = event.field(Field::RunId)
        {
            self.run_named(crew, &run);
        }
    }
}

#[cfg(test)]
mod tests;
