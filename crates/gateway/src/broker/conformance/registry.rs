//! Directory, revocations, tickets.

use std::time::Duration;

use bytes::Bytes;
use crewcast_events::{Kind, timestamp::unix_now};
use crewcast_store::{AppendError, Ownership, OwnershipMode, OwnershipOutcome};

use super::{Subject, append, channel, eventually};
use crate::registry::{Control, Revocation, RevocationTarget};

fn ownership(kind: Kind, id: &str, org: &str) -> Ownership {
    Ownership { kind, id: id.to_owned(), org: org.to_owned(), crew: None }
}

fn controls(subject: &Subject) -> Vec<Control> {
    subject.sink.controls().iter().map(|text| serde_json::from_slice(text).expect("a control message")).collect()
}

pub(in crate::broker) async fn the_first_owner_stays(subject: Subject) {
    let Subject { broker, registry, sink, .. } = &subject;
    let ours = ownership(Kind::Crew, "abc", "acme");
    let run = Ownership { crew: Some("abc".to_owned()), ..ownership(Kind::Run, "r1", "acme") };
    assert_eq!(broker.register(&ours, OwnershipMode::Keep).await.unwrap(), OwnershipOutcome::Done);
    assert_eq!(broker.register(&run, OwnershipMode::Keep).await.unwrap(), OwnershipOutcome::Done);
    let malformed = broker.register(&ownership(Kind::Crew, "a b", "acme"), OwnershipMode::Keep).await.unwrap_err();
    assert!(matches!(malformed, AppendError::Refused(_)), "{malformed:?}");
    let theirs = ownership(Kind::Crew, "abc", "evil");
    for mode in [OwnershipMode::Keep, OwnershipMode::Remove] {
        assert_eq!(broker.register(&theirs, mode).await.unwrap(), OwnershipOutcome::OwnedBy("acme".to_owned()));
    }
    let ids = ["abc".to_owned(), "unknown".to_owned()];
    let owners = registry.owners(Kind::Crew, &ids).await.unwrap();
    assert_eq!(owners.into_iter().collect::<Vec<_>>(), [("abc".to_owned(), ours.clone())]);
    broker.register(&ownership(Kind::Run, "r1", "acme"), OwnershipMode::Keep).await.unwrap();
    assert_eq!(registry.owners(Kind::Run, &["r1".to_owned()]).await.unwrap()["r1"], run, "its crew is still known");
    assert!(registry.owners(Kind::Run, &["abc".to_owned()]).await.unwrap().is_empty());
    assert_eq!(registry.ids_of_org("acme", Kind::Crew).await.unwrap(), ["abc"]);
    assert!(registry.ids_of_org("evil", Kind::Crew).await.unwrap().is_empty());

    assert_eq!(broker.register(&ours, OwnershipMode::Remove).await.unwrap(), OwnershipOutcome::Done);
    assert!(registry.owners(Kind::Crew, &ids).await.unwrap().is_empty());
    assert!(registry.ids_of_org("acme", Kind::Crew).await.unwrap().is_empty());
    assert_eq!(broker.register(&theirs, OwnershipMode::Keep).await.unwrap(), OwnershipOutcome::Done);
    sink.until("each change is announced", |_| {
        let received = controls(&subject);
        let said = |ownership: &Ownership, removed: bool| {
            received.contains(&Control::Directory { ownership: ownership.clone(), from: None, removed })
        };
        said(&ours, false) && said(&run, false) && said(&ours, true) && said(&theirs, false)
    })
    .await;
}

pub(in crate::broker) async fn a_moved_id_loses_its_logs(subject: Subject) {
    let Subject { broker, registry, sink, .. } = &subject;
    let (graph, other) = (channel("graph:abc"), channel("graph:other"));
    broker.register(&ownership(Kind::Crew, "abc", "acme"), OwnershipMode::Keep).await.unwrap();
    append(&**broker, &graph, &[1, 2]).await;
    append(&**broker, &other, &[1]).await;
    let moved = ownership(Kind::Crew, "abc", "other");
    assert_eq!(broker.register(&moved, OwnershipMode::Move).await.unwrap(), OwnershipOutcome::Done);
    assert!(broker.history(&graph, 0, 10).await.unwrap().entries.is_empty(), "the former owner's events");
    let head = broker.history(&graph, 0, 10).await.unwrap().head;
    assert_eq!(head.map(|head| head.offset()), Some(2), "the head stays, so that readers are told what they miss");
    assert_eq!(broker.history(&other, 0, 10).await.unwrap().entries.len(), 1);
    assert_eq!(registry.ids_of_org("other", Kind::Crew).await.unwrap(), ["abc"]);
    assert!(registry.ids_of_org("acme", Kind::Crew).await.unwrap().is_empty());
    let received = Control::Directory { ownership: moved, from: Some("acme".to_owned()), removed: false };
    sink.until("the move is announced", |_| controls(&subject).contains(&received)).await;
}

pub(in crate::broker) async fn a_removed_id_loses_its_logs(subject: Subject) {
    let Subject { broker, .. } = &subject;
    let (graph, mission) = (channel("graph:abc"), channel("mission:abc"));
    let ours = ownership(Kind::Crew, "abc", "acme");
    broker.register(&ours, OwnershipMode::Keep).await.unwrap();
    append(&**broker, &graph, &[1, 2]).await;
    append(&**broker, &mission, &[1]).await;
    broker.register(&ownership(Kind::Crew, "abc", "evil"), OwnershipMode::Remove).await.unwrap();
    assert_eq!(broker.history(&graph, 0, 10).await.unwrap().entries.len(), 2, "only the owner can remove an id");
    assert_eq!(broker.register(&ours, OwnershipMode::Remove).await.unwrap(), OwnershipOutcome::Done);
    broker.register(&ownership(Kind::Crew, "abc", "other"), OwnershipMode::Keep).await.unwrap();
    let page = broker.history(&graph, 0, 10).await.unwrap();
    assert!(page.entries.is_empty(), "the former owner's events");
    assert_eq!(page.head.map(|head| head.offset()), Some(2), "the head stays, so that readers are told what they miss");
    let retained = broker.snapshots(std::slice::from_ref(&mission)).await.unwrap().remove(0).retained;
    assert_eq!(retained, None);
    // What the next owner logs stays, even if the former owner removes the id once more.
    append(&**broker, &graph, &[3]).await;
    broker.register(&ours, OwnershipMode::Remove).await.unwrap();
    assert_eq!(broker.history(&graph, 0, 10).await.unwrap().entries.len(), 1);
}

pub(in crate::broker) async fn revocations_are_announced_and_remembered(subject: Subject) {
    let Subject { registry, sink, .. } = &subject;
    let now = unix_now();
    let jti =
        Revocation { target: RevocationTarget::Jti("j:1".to_owned()), issued_until: now, remember_until: now + 3600 };
    let sub =
        Revocation { target: RevocationTarget::Sub("u1".to_owned()), issued_until: now - 60, remember_until: now + 60 };
    let soon = Revocation {
        target: RevocationTarget::Sub("soon".to_owned()),
        issued_until: now,
        remember_until: unix_now() + 1,
    };
    for revocation in [&soon, &jti, &sub] {
        registry.revoke(revocation).await.unwrap();
    }
    sink.until("each is announced", |_| {
        let received = controls(&subject);
        [&soon, &jti, &sub].iter().all(|revocation| received.contains(&Control::Revoked((*revocation).clone())))
    })
    .await;
    // A later revocation of the same user extends an earlier one; an earlier one takes nothing back.
    let later = Revocation { issued_until: now, remember_until: now + 600, ..sub.clone() };
    registry.revoke(&later).await.unwrap();
    registry.revoke(&sub).await.unwrap();
    eventually("what has expired is forgotten", async || {
        let mut known = registry.revocations().await.unwrap();
        known.sort_by_key(|revocation| revocation.remember_until);
        known == [later.clone(), jti.clone()]
    })
    .await;
}

pub(in crate::broker) async fn each_client_is_announced_with_a_higher_number(subject: Subject) {
    let Subject { registry, sink, .. } = &subject;
    let mut announced = Vec::new();
    for client in ["acme\nclient_1\nu1", "\"{}0}\u{1}é", "acme\nclient_1\nu1"] {
        let number = registry.register_client(client).await.unwrap();
        announced.push(Control::Client { client: client.to_owned(), number });
    }
    let numbers: Vec<u64> = announced
        .iter()
        .map(|received| match received {
            Control::Client { number, .. } => *number,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    sink.until("each is announced", |_| {
        let received = controls(&subject);
        announced.iter().all(|announced| received.contains(announced))
    })
    .await;
}

pub(in crate::broker) async fn a_ticket_is_taken_once(subject: Subject) {
    let Subject { registry, .. } = &subject;
    let content = Bytes::from_static(b"\x00who\xff");
    registry.put_ticket("t1", content.clone(), Duration::from_secs(60)).await.unwrap();
    let takers = (0..20).map(|_| {
        let registry = registry.clone();
        tokio::spawn(async move { registry.take_ticket("t1").await.unwrap() })
    });
    let mut taken = Vec::new();
    for taker in takers.collect::<Vec<_>>() {
        taken.extend(taker.await.unwrap());
    }
    assert_eq!(taken, std::slice::from_ref(&content));
    assert_eq!(registry.take_ticket("never").await.unwrap(), None);
    registry.put_ticket("t2", content, Duration::from_millis(200)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(registry.take_ticket("t2").await.unwrap(), None, "the ticket has expired");
}

pub(in crate::broker) async fn usage_is_reported_and_expires(subject: Subject) {
    let registry = &subject.registry;
    let received = async || {
        let mut received = registry.usage().await.unwrap();
        received.sort();
        received
    };
    assert!(received().await.is_empty());
    let text = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    registry.report_usage("b", text("{\"n\":\"1:2\\n\"}")).await.unwrap();
    registry.report_usage("a", text("old")).await.unwrap();
    registry.report_usage("a", text("line\nline")).await.unwrap();
    let pair = |replica: &str, text: &'static str| (replica.to_owned(), Bytes::from_static(text.as_bytes()));
    assert_eq!(received().await, [pair("a", "line\nline"), pair("b", "{\"n\":\"1:2\\n\"}")]);
    registry.report_usage("b", None).await.unwrap();
    registry.report_usage("never", None).await.unwrap();
    assert_eq!(received().await, [pair("a", "line\nline")]);
}
