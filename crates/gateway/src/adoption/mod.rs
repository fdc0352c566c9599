//! Adoption: ids that events bring up get an owner.
//!
//! In every deployment, a run that an event of a registered crew names becomes that crew's. `crew_watch.rs` has the
//! events of an org's crews read while a socket waits for a run. With `directory.adopt`, an id without an owner becomes
//! the default org's with the first event in one of its channels. `first_events.rs` keeps those events until the
//! channel is read.

mod crew_watch;
mod first_events;

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use crewcast_events::{Channel, Event, Kind, Namespaces, Owner};
use crewcast_store::{Ownership, OwnershipMode, OwnershipOutcome, Transport};
use parking_lot::Mutex;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::Instant,
};

pub(crate) use self::crew_watch::{CrewWatch, CrewWatches};
use self::first_events::FirstEvents;
use crate::{
    auth::Auth,
    registry::BrokerError,
    relay::Sightings,
    telemetry::metrics::{Metric, counter},
};

/// Ids that wait to be looked up. More are dropped: their next event brings them up again.
const QUEUE: usize = 10_000;
/// How long an id that was brought up is not looked up again.
const SETTLED: Duration = Duration::from_secs(5);
/// Ids that are remembered for that. Beyond it, all are forgotten.
const MAX_SETTLED: usize = 65_536;

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
    namespaces: Namespaces,
    /// The org that adopts ids without an owner.
    adopter: Option<String>,
    queue: mpsc::Sender<Sighting>,
    settled: Mutex<HashMap<String, Instant>>,
    first: Mutex<FirstEvents>,
}

/// The sightings that [`Adoption::serve`] works through.
pub(crate) struct WaitingSightings(mpsc::Receiver<Sighting>);

impl Adoption {
    /// An adoption of runs by their crews, and of everything by `adopter`.
    pub(crate) fn new(
        auth: Arc<Auth>,
        transport: Arc<dyn Transport>,
        namespaces: Namespaces,
        adopter: Option<String>,
    ) -> (Arc<Self>, WaitingSightings) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let (settled, first) = (Mutex::default(), Mutex::default());
        (Arc::new(Self { auth, transport, namespaces, adopter, queue, settled, first }), WaitingSightings(waiting))
    }

    /// Looks ids up and registers those without an owner, one at a time. Never returns.
    pub(crate) async fn serve(self: Arc<Self>, mut queue: WaitingSightings) {
        while let Some(sighting) = queue.0.recv().await {
            self.look_up(sighting).await;
        }
    }

    async fn look_up(&self, sighting: Sighting) {
        match sighting {
            Sighting::Channel(channel) => self.adopt(&channel).await,
            Sighting::Run { crew, run } => self.adopt_run(&crew, run).await,
        }
    }

    async fn adopt(&self, channel: &Channel) {
        let Some((org, kind)) = self.adopter.as_ref().zip(self.kind_of(channel)) else { return };
        match self.auth.owner(kind, channel.id()).await {
            Ok(None) => self.register(kind, channel.id().to_owned(), org.clone(), None).await,
            Ok(Some(_)) => self.first.lock().is_owned(kind, channel),
            Err(error) => tracing::debug!(%error, %channel, "cannot look up an owner; the next event tries again"),
        }
    }

    async fn adopt_run(&self, crew: &str, run: String) {
        if let Err(error) = self.try_adopt_run(crew, &run).await {
            tracing::debug!(%error, run, "cannot look up an owner; the next event tries again");
        }
    }

    async fn try_adopt_run(&self, crew: &str, run: &str) -> Result<(), BrokerError> {
        // A crew that is adopted itself may not be registered yet.
        let crew_owner = self.auth.owner(Kind::Crew, crew).await?.map(|owner| owner.org);
        let Some(org) = crew_owner.or_else(|| self.adopter.clone()) else { return Ok(()) };
        match self.auth.owner(Kind::Run, run).await? {
            Some(owner) if owner.org != org || owner.crew.is_some() => {}
            _ => self.register(Kind::Run, run.to_owned(), org, Some(crew.to_owned())).await,
        }
        Ok(())
    }

    async fn register(&self, kind: Kind, id: String, org: String, crew: Option<String>) {
        let ownership = Ownership { kind, id, org, crew };
        match self.transport.register(&ownership, OwnershipMode::Keep).await {
            Ok(OwnershipOutcome::Done) => {
                self.registered(&ownership);
                counter(Metric::IdsAdopted, &[("kind", kind.as_str())]).increment(1);
                tracing::debug!(kind = kind.as_str(), id = ownership.id, org = ownership.org, "adopted an id");
            }
            Ok(OwnershipOutcome::OwnedBy(_)) => {}
            Err(error) => tracing::debug!(%error, id = ownership.id, "cannot adopt an id; the next event tries again"),
        }
    }

    /// Queues a sighting, unless its id was brought up a moment ago. `key` names the id.
    fn sight(&self, key: &str, sighting: impl FnOnce() -> Option<Sighting>) {
        let now = Instant::now();
        let mut settled = self.settled.lock();
        if settled.get(key).is_some_and(|until| now < *until) {
            return;
        }
        let Some(sighting) = sighting() else { return };
        if settled.len() >= MAX_SETTLED {
            settled.clear();
        }
        match self.queue.try_send(sighting) {
            Ok(()) => _ = settled.insert(key.to_owned(), now + SETTLED),
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {}
        }
    }

    /// An id has got an owner, from this replica or another.
    pub(crate) fn registered(&self, ownership: &Ownership) {
        if self.adopter.is_some() {
            self.first.lock().registered(ownership.kind, &ownership.id);
        }
    }

    fn kind_of(&self, channel: &Channel) -> Option<Kind> {
        self.namespaces.of(channel)?.owner.and_then(Owner::kind)
    }
}

impl Sightings for Adoption {
    fn run_named(&self, crew: &str, run: &str) {
        if crewcast_events::is_id(run) {
            let named = || Some(Sighting::Run { crew: crew.to_owned(), run: run.to_owned() });
            self.sight(&format!("run-of:{run}"), named);
        }
    }

    fn overheard(&self, name: &str, message: &Bytes) {
        if self.adopter.is_none() {
            return;
        }
        let parsed = || name.parse::<Channel>().ok().filter(|channel| self.kind_of(channel).is_some());
        let event = || Event::parse(message.clone()).ok();
        let mut first = self.first.lock();
        first.heard(name, event);
        self.sight(name, || {
            let (channel, event) = (parsed()?, event()?);
            first.begin(&channel, event);
            Some(Sighting::Channel(channel))
        });
    }

    fn first_events(&self, channel: &Channel) -> Vec<Event> {
        if self.adopter.is_none() { Vec::new() } else { self.first.lock().take(channel) }
    }
}

#[cfg(test)]
mod tests;
