//! The directory: the first owner stays, `Move` and `Remove`, and the messages to gateways.

use crewcast_events::{Keys, Kind};
use crewcast_publisher::{AppendError, Once, Ownership, OwnershipMode, OwnershipOutcome, Transport};
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::support::{RedisServer, channel, eyes, log, single, transport};

fn ownership(kind: Kind, id: &str, org: &str, crew: Option<&str>) -> Ownership {
    Ownership { kind, id: id.to_owned(), org: org.to_owned(), crew: crew.map(str::to_owned) }
}

async fn entry(server: &RedisServer, kind: Kind, id: &str) -> Vec<(String, String)> {
    let key = Keys::default().directory_entry(kind, id);
    redis::cmd("HGETALL").arg(key).query_async(&mut eyes(server).await).await.unwrap()
}

async fn listed(server: &RedisServer, org: &str, kind: Kind) -> Vec<String> {
    let key = Keys::default().directory_of_org(org, kind);
    redis::cmd("ZRANGE").arg(key).arg(0).arg(-1).query_async(&mut eyes(server).await).await.unwrap()
}

/// Listens on the control channel. `drain` marks the end of the list with its own message.
struct Control(redis::aio::PubSub);

impl Control {
    async fn listen(server: &RedisServer) -> Self {
        let mut listener = redis::Client::open(server.url()).unwrap().get_async_pubsub().await.unwrap();
        listener.subscribe(Keys::default().control()).await.unwrap();
        Self(listener)
    }

    async fn drain(&mut self, server: &RedisServer) -> Vec<Value> {
        let mut redis = eyes(server).await;
        redis::cmd("PUBLISH").arg(Keys::default().control()).arg("null").exec_async(&mut redis).await.unwrap();
        let messages = self.0.on_message().map(|m| serde_json::from_slice::<Value>(m.get_payload_bytes()).unwrap());
        messages.take_while(|message| std::future::ready(!message.is_null())).collect().await
    }
}

#[tokio::test]
async fn the_first_owner_stays_and_a_repeated_registration_is_silent() {
    let server = RedisServer::start();
    let transport = transport(&server);
    let mut control = Control::listen(&server).await;
    let ours = ownership(Kind::Run, "r", "acme", Some("c"));
    for _ in 0..3 {
        assert_eq!(transport.register(&ours, OwnershipMode::Keep).await, Ok(OwnershipOutcome::Done));
    }
    let theirs = ownership(Kind::Run, "r", "other", None);
    for mode in [OwnershipMode::Keep, OwnershipMode::Remove] {
        assert_eq!(transport.register(&theirs, mode).await, Ok(OwnershipOutcome::OwnedBy("acme".to_owned())));
    }
    let fields = [("org", "acme"), ("crew", "c")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let mut stored = entry(&server, Kind::Run, "r").await;
    stored.sort_by(|a, b| b.cmp(a));
    assert_eq!(stored, fields);
    assert_eq!(listed(&server, "acme", Kind::Run).await, ["r"]);
    assert!(listed(&server, "other", Kind::Run).await.is_empty());
    let told = json!({"kind":"directory","claim":{"kind":"run","id":"r","org":"acme","crew":"c"},"removed":false});
    assert_eq!(control.drain(&server).await, [told]);
}

#[tokio::test]
async fn a_new_crew_is_published_and_an_omitted_one_is_kept() {
    let server = RedisServer::start();
    let transport = transport(&server);
    transport.register(&ownership(Kind::Run, "r", "acme", None), OwnershipMode::Keep).await.unwrap();
    let mut control = Control::listen(&server).await;
    transport.register(&ownership(Kind::Run, "r", "acme", Some("c")), OwnershipMode::Keep).await.unwrap();
    transport.register(&ownership(Kind::Run, "r", "acme", None), OwnershipMode::Keep).await.unwrap();
    let told = control.drain(&server).await;
    assert_eq!((told.len(), &told[0]["claim"]["crew"]), (1, &json!("c")));
    assert!(entry(&server, Kind::Run, "r").await.contains(&("crew".to_owned(), "c".to_owned())));
}

#[tokio::test]
async fn a_move_changes_hands_and_drops_the_former_owners_events() {
    let server = RedisServer::start();
    let transport = transport(&server);
    let mut redis = eyes(&server).await;
    transport.register(&ownership(Kind::Crew, "c", "old", None), OwnershipMode::Keep).await.unwrap();
    for name in ["graph:c", "mission:c", "run:c", "graph:d"] {
        transport.append(&single(name, r#"{"type":"x"}"#, Once::No)).await.unwrap();
    }
    let mut control = Control::listen(&server).await;
    for _ in 0..2 {
        transport.register(&ownership(Kind::Crew, "c", "new", None), OwnershipMode::Move).await.unwrap();
    }
    let told = json!({"kind":"directory","claim":{"kind":"crew","id":"c","org":"new"},"from":"old","removed":false});
    assert_eq!(control.drain(&server).await, [told]);
    assert_eq!(entry(&server, Kind::Crew, "c").await, [("org".to_owned(), "new".to_owned())]);
    assert!(listed(&server, "old", Kind::Crew).await.is_empty());
    assert_eq!(listed(&server, "new", Kind::Crew).await, ["c"]);
    let keys = Keys::default();
    for (name, gone) in [("graph:c", true), ("mission:c", true), ("run:c", false), ("graph:d", false)] {
        assert_eq!(log(&server, name).await.is_empty(), gone, "{name}");
        let head: bool = redis::cmd("EXISTS").arg(keys.head(&channel(name))).query_async(&mut redis).await.unwrap();
        assert!(head, "{name}");
    }
    let retained: bool =
        redis::cmd("EXISTS").arg(keys.retained(&channel("mission:c"))).query_async(&mut redis).await.unwrap();
    assert!(!retained);
    // Events of the new owner survive a repeated move.
    transport.append(&single("graph:c", r#"{"type":"x"}"#, Once::No)).await.unwrap();
    transport.register(&ownership(Kind::Crew, "c", "new", None), OwnershipMode::Move).await.unwrap();
    assert_eq!(log(&server, "graph:c").await.len(), 1);
}

#[tokio::test]
async fn a_repeated_registration_completes_a_move_that_was_cut_short() {
    let server = RedisServer::start();
    let transport = transport(&server);
    transport.register(&ownership(Kind::Crew, "c", "old", None), OwnershipMode::Keep).await.unwrap();
    transport.append(&single("graph:c", r#"{"type":"x"}"#, Once::No)).await.unwrap();
    // The entry as it is when the connection breaks right after the script.
    let mut redis = eyes(&server).await;
    let key = Keys::default().directory_entry(Kind::Crew, "c");
    redis::cmd("HSET").arg(&[&key, "org", "new", "pending", "from:old"]).exec_async(&mut redis).await.unwrap();
    let mut control = Control::listen(&server).await;
    transport.register(&ownership(Kind::Crew, "c", "new", None), OwnershipMode::Keep).await.unwrap();
    assert!(log(&server, "graph:c").await.is_empty());
    assert!(listed(&server, "old", Kind::Crew).await.is_empty());
    assert_eq!(control.drain(&server).await[0]["from"], "old");
    assert_eq!(entry(&server, Kind::Crew, "c").await, [("org".to_owned(), "new".to_owned())]);
}

#[tokio::test]
async fn a_removal_forgets_the_id_and_is_published_once() {
    let server = RedisServer::start();
    let transport = transport(&server);
    let ours = ownership(Kind::Stream, "s", "acme", None);
    transport.register(&ours, OwnershipMode::Keep).await.unwrap();
    let mut control = Control::listen(&server).await;
    for _ in 0..2 {
        assert_eq!(transport.register(&ours, OwnershipMode::Remove).await, Ok(OwnershipOutcome::Done));
    }
    let told = control.drain(&server).await;
    assert_eq!((told.len(), &told[0]["removed"]), (1, &json!(true)));
    assert!(entry(&server, Kind::Stream, "s").await.is_empty());
    assert!(listed(&server, "acme", Kind::Stream).await.is_empty());
    assert_eq!(
        transport.register(&ownership(Kind::Stream, "s", "other", None), OwnershipMode::Keep).await,
        Ok(OwnershipOutcome::Done)
    );
}

#[tokio::test]
async fn a_removal_drops_the_events_before_another_org_can_register() {
    let server = RedisServer::start();
    let transport = transport(&server);
    let mut redis = eyes(&server).await;
    let ours = ownership(Kind::Crew, "c", "acme", None);
    let theirs = ownership(Kind::Crew, "c", "other", None);
    transport.register(&ours, OwnershipMode::Keep).await.unwrap();
    transport.append(&single("mission:c", r#"{"type":"x"}"#, Once::No)).await.unwrap();
    // The entry as it is when the connection breaks before the events are gone: it still belongs to the owner.
    let key = Keys::default().directory_entry(Kind::Crew, "c");
    redis::cmd("HSET").arg(&[&key, "pending", "removing"]).exec_async(&mut redis).await.unwrap();
    assert_eq!(
        transport.register(&theirs, OwnershipMode::Keep).await,
        Ok(OwnershipOutcome::OwnedBy("acme".to_owned()))
    );
    transport.register(&ours, OwnershipMode::Remove).await.unwrap();
    assert!(log(&server, "mission:c").await.is_empty());
    let keys = Keys::default();
    let mission = channel("mission:c");
    for (key, stands) in [(keys.head(&mission), true), (keys.retained(&mission), false), (keys.state(&mission), false)]
    {
        let exists: bool = redis::cmd("EXISTS").arg(&key).query_async(&mut redis).await.unwrap();
        assert_eq!(exists, stands, "{key}");
    }
    assert_eq!(transport.register(&theirs, OwnershipMode::Keep).await, Ok(OwnershipOutcome::Done));
}

#[tokio::test]
async fn an_owner_that_registers_again_ends_a_removal() {
    let server = RedisServer::start();
    let transport = transport(&server);
    let ours = ownership(Kind::Crew, "c", "acme", None);
    transport.register(&ours, OwnershipMode::Keep).await.unwrap();
    let key = Keys::default().directory_entry(Kind::Crew, "c");
    let mut redis = eyes(&server).await;
    redis::cmd("HSET").arg(&[&key, "pending", "removing"]).exec_async(&mut redis).await.unwrap();
    transport.register(&ours, OwnershipMode::Keep).await.unwrap();
    assert_eq!(entry(&server, Kind::Crew, "c").await, [("org".to_owned(), "acme".to_owned())]);
    assert_eq!(listed(&server, "acme", Kind::Crew).await, ["c"]);
}

#[tokio::test]
async fn runs_and_sessions_age_and_crews_do_not() {
    let server = RedisServer::start();
    let transport = transport(&server);
    let mut redis = eyes(&server).await;
    for (kind, ages) in [(Kind::Run, true), (Kind::Session, true), (Kind::Crew, false), (Kind::Stream, false)] {
        let key = Keys::default().directory_of_org("acme", kind);
        redis::cmd("ZADD").arg(&key).arg(1).arg("ancient").exec_async(&mut redis).await.unwrap();
        transport.register(&ownership(kind, "x", "acme", None), OwnershipMode::Keep).await.unwrap();
        let entry = Keys::default().directory_entry(kind, "x");
        let left: i64 = redis::cmd("TTL").arg(entry).query_async(&mut redis).await.unwrap();
        let month = 31 * 24 * 3600;
        assert!(if ages { (month - 5..=month).contains(&left) } else { left == -1 }, "{kind:?}: {left}");
        assert_eq!(listed(&server, "acme", kind).await.contains(&"ancient".to_owned()), !ages, "{kind:?}");
    }
}

#[tokio::test]
async fn ids_outside_the_grammar_are_refused() {
    let server = RedisServer::start();
    let transport = transport(&server);
    for bad in [
        ownership(Kind::Crew, "a b", "acme", None),
        ownership(Kind::Crew, "a", "", None),
        ownership(Kind::Run, "a", "acme", Some("{x}")),
    ] {
        assert!(matches!(transport.register(&bad, OwnershipMode::Keep).await, Err(AppendError::Refused(_))), "{bad:?}");
    }
}
