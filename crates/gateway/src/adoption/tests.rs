use bytes::Bytes;
use crewcast_events::Namespaces;

use super::*;
use crate::{
    broker::{Broker, memory::MemoryBroker},
    config::AuthConfig,
    hub::RingLimits,
    registry::Registry,
};

struct World {
    adoption: Arc<Adoption>,
    broker: Broker,
    registry: Registry,
    queue: WaitingSightings,
}

impl World {
    fn new(adopter: Option<&str>) -> Self {
        let memory = Arc::new(MemoryBroker::new(Namespaces::default()));
        let (broker, registry) = (Broker::of(memory.clone()), Registry::of(memory));
        let config = AuthConfig { anonymous: Some(serde_json::Map::new()), ..AuthConfig::default() };
        let (directory, revocations) = (registry.directory.clone(), registry.revocations.clone());
        let auth =
            Auth::new(&config, &Namespaces::default(), directory, revocations, registry.tickets.clone()).unwrap();
        let (transport, adopter) = (broker.transport.clone(), adopter.map(str::to_owned));
        let (hub, _) = Hub::new(RingLimits { events: 10, bytes: 1 << 20, total_bytes: 1 << 20 });
        let (adoption, queue) = Adoption::new(auth, transport, hub, Namespaces::default(), adopter);
        Self { adoption, broker, registry, queue }
    }

    async fn own(&self, ownership: Ownership) {
        let registered = self.broker.transport.register(&ownership, OwnershipMode::Keep).await;
        assert_eq!(registered.unwrap(), OwnershipOutcome::Done);
    }

    fn publishes(&self, channel: &str, event: &str) {
        self.adoption.overheard(channel, &Bytes::copy_from_slice(event.as_bytes()));
    }

    /// Looks up everything that was sighted so far.
    async fn settle(&mut self) {
        while let Ok(sighting) = self.queue.0.try_recv() {
            self.adoption.look_up(sighting).await;
        }
    }

    /// Org and crew of an id.
    async fn owner(&self, kind: Kind, id: &str) -> Option<(String, Option<String>)> {
        let owner = self.registry.directory.owners(kind, &[id.to_owned()]).await.unwrap().remove(id)?;
        Some((owner.org, owner.crew))
    }
}

fn ownership(kind: Kind, id: &str, org: &str) -> Ownership {
    Ownership { kind, id: id.to_owned(), org: org.to_owned(), crew: None }
}

fn of(org: &str, crew: Option<&str>) -> Option<(String, Option<String>)> {
    Some((org.to_owned(), crew.map(str::to_owned)))
}

#[tokio::test]
async fn a_run_becomes_that_of_the_registered_crew_that_names_it() {
    let mut world = World::new(None);
    world.own(ownership(Kind::Crew, "abc", "acme")).await;
    world.own(ownership(Kind::Run, "payroll", "acme")).await;
    world.own(ownership(Kind::Run, "taken", "globex")).await;
    for (crew, run) in [("abc", "r1"), ("abc", "payroll"), ("abc", "taken"), ("unknown", "r2"), ("abc", "no id")] {
        world.adoption.run_named(crew, run);
    }
    world.settle().await;
    assert_eq!(world.owner(Kind::Run, "r1").await, of("acme", Some("abc")));
    assert_eq!(world.owner(Kind::Run, "payroll").await, of("acme", None), "a registered run keeps its readers");
    assert_eq!(world.owner(Kind::Run, "taken").await, of("globex", None));
    assert_eq!(world.owner(Kind::Run, "r2").await, None);
    assert_eq!(world.owner(Kind::Run, "no id").await, None);
    world.publishes("graph:def", r#"{"type":"x"}"#);
    world.settle().await;
    assert_eq!(world.owner(Kind::Crew, "def").await, None, "adoption is off");
}

#[tokio::test(start_paused = true)]
async fn an_id_that_was_just_looked_up_is_not_looked_up_again() {
    let mut world = World::new(None);
    world.adoption.run_named("abc", "r1");
    world.settle().await;
    world.own(ownership(Kind::Crew, "abc", "acme")).await;
    world.adoption.run_named("abc", "r1");
    assert!(world.queue.0.is_empty());
    // The cached answer that the crew has no owner is as old as the replica allows by then.
    tokio::time::advance(Duration::from_secs(30)).await;
    world.adoption.run_named("abc", "r1");
    world.settle().await;
    assert_eq!(world.owner(Kind::Run, "r1").await, of("acme", Some("abc")));
}

#[tokio::test]
async fn an_id_without_an_owner_becomes_that_of_the_adopter() {
    let mut world = World::new(Some("default"));
    world.own(ownership(Kind::Stream, "taken", "acme")).await;
    let event = r#"{"type":"x"}"#;
    for channel in ["graph:abc", "mission:abc", "run:r1", "stream:s1", "session:s2", "stream:taken"] {
        world.publishes(channel, event);
    }
    world.publishes("graph:junk", "not an event");
    world.publishes("graph:not an id", event);
    world.publishes("hub:default", event);
    world.settle().await;
    assert_eq!(world.owner(Kind::Crew, "abc").await, of("default", None));
    assert_eq!(world.owner(Kind::Run, "r1").await, of("default", None));
    assert_eq!(world.owner(Kind::Stream, "s1").await, of("default", None));
    assert_eq!(world.owner(Kind::Session, "s2").await, of("default", None));
    assert_eq!(world.owner(Kind::Stream, "taken").await, of("acme", None));
    assert_eq!(world.owner(Kind::Crew, "junk").await, None);

    world.publishes("graph:abc", r#"{"type":"x","run_id":"r1"}"#);
    world.settle().await;
    assert_eq!(world.owner(Kind::Run, "r1").await, of("default", Some("abc")), "an event of the crew came later");
    let first = |channel: &str| world.adoption.first_events(&channel.parse().unwrap()).events.len();
    assert_eq!((first("mission:abc"), first("mission:abc")), (1, 0), "they are handed over once");
}
