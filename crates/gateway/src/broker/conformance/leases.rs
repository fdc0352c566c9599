//! Leases: made, renewed, run out, told once.

use std::{sync::Arc, time::Duration};

use crewcast_events::{Channel, EventId, catalog::silence::Silence};
use crewcast_store::{
    Append, AppendError, Entry, LeaseStep, MAX_ENTRIES, MAX_LEASES, MIN_LEASE_TTL, Once, Renewal, Transport,
};
use serde_json::value::RawValue;

use super::{Subject, append, append_once, channel, entry, eventually};
use crate::broker::{Broker, MAX_EXPIRED};

const MINUTE: Duration = Duration::from_secs(60);

pub(super) fn hold(name: &str, ttl: Duration) -> Entry {
    let about = RawValue::from_string(r#"{"tool":"a : b"}"#.to_owned()).expect("an object");
    let step = LeaseStep::Hold { name: name.into(), ttl, about: Some(Arc::from(about)) };
    Entry { lease: Some(step), ..entry(r#"{"type":"x_start"}"#) }
}

fn release(name: &str) -> Entry {
    Entry { lease: Some(LeaseStep::Release { name: name.into() }), ..entry(r#"{"type":"x_end"}"#) }
}

fn tell(name: &str, expiry: Silence, lost_after: Duration) -> Entry {
    let step = LeaseStep::Expire { name: name.into(), expiry, lost_after };
    Entry { lease: Some(step), ..entry(&format!(r#"{{"type":"{}"}}"#, expiry.as_str())) }
}

async fn tell_one(
    broker: &(impl Transport + ?Sized),
    channel: &Channel,
    expiry: Silence,
    lost_after: Duration,
) -> Option<EventId> {
    let append = Append { channel: channel.clone(), entries: vec![tell("a", expiry, lost_after)], once: Once::No };
    broker.append(&append).await.expect("answered")[0]
}

async fn due(broker: &Arc<dyn Broker>, channel: &Channel) -> Option<Duration> {
    broker.next_lease_expiry(std::slice::from_ref(channel)).await.expect("read")[0]
}

/// What is to be told of the lease `a`, as soon as that is something else than before.
async fn expiry(broker: &Arc<dyn Broker>, channel: &Channel, expected: Silence) {
    eventually(expected.as_str(), async || {
        let silent = broker.expired_leases(channel).await.expect("read");
        silent.iter().any(|silent| silent.name == "a" && silent.expiry == expected)
    })
    .await;
}

async fn types(broker: &Arc<dyn Broker>, channel: &Channel) -> Vec<String> {
    let page = broker.history(channel, 0, 1000).await.expect("read");
    let kind = |raw: &bytes::Bytes| {
        serde_json::from_slice::<serde_json::Value>(raw).expect("JSON")["type"].as_str().expect("a type").to_owned()
    };
    page.entries.iter().map(kind).collect()
}

fn renewal(channel: &Channel, names: &[&str]) -> Renewal {
    Renewal { channel: channel.clone(), ttl: MINUTE, names: names.iter().map(|name| Arc::from(*name)).collect() }
}

pub(in crate::broker) async fn a_lease_comes_and_goes_with_its_events(subject: Subject) {
    let broker = &subject.broker;
    let (run, other) = (channel("run:r1"), channel("run:other"));
    append_once(&**broker, &run, vec![hold("a", MINUTE), hold("b", 2 * MINUTE)], Once::No).await;
    let both = broker.next_lease_expiry(&[other.clone(), run.clone()]).await.unwrap();
    assert_eq!(both[0], None);
    assert!(both[1].is_some_and(|due| due <= MINUTE && due > MINUTE / 2), "the first of them: {both:?}");
    append_once(&**broker, &run, vec![release("a")], Once::No).await;
    assert!(due(broker, &run).await.is_some_and(|due| due > MINUTE));
    append_once(&**broker, &run, vec![release("b"), release("never")], Once::No).await;
    assert_eq!(due(broker, &run).await, None);
    broker.renew(&[renewal(&run, &["a", "b"]), renewal(&other, &["a"])]).await.unwrap();
    assert_eq!(due(broker, &run).await, None, "a renewal that comes late makes no lease");
    append_once(&**broker, &run, vec![hold("a", MINUTE), release("a")], Once::No).await;
    assert_eq!(due(broker, &run).await, None, "one append may hold the whole of it");

    // What is repeated is not done again: the end stands behind the start, whatever comes twice.
    let once = || Once::Sequence { producer: "p".into(), first: 1 };
    append_once(&**broker, &run, vec![hold("a", MINUTE), release("a")], once()).await;
    append_once(&**broker, &run, vec![hold("a", MINUTE)], once()).await;
    assert_eq!(due(broker, &run).await, None);
}

pub(in crate::broker) async fn a_silence_is_told_once_whoever_tells(subject: Subject) {
    let Subject { broker, sink, .. } = &subject;
    let run = channel("run:r1");
    broker.subscribe(std::slice::from_ref(&run)).await.unwrap();
    append_once(&**broker, &run, vec![hold("a", MIN_LEASE_TTL), hold("b", MINUTE)], Once::No).await;
    expiry(broker, &run, Silence::Stalled).await;
    assert_eq!(due(broker, &run).await, Some(Duration::ZERO));
    let silent = broker.expired_leases(&run).await.unwrap();
    assert_eq!(silent.len(), 1, "the other one stands: {silent:?}");
    assert_eq!(silent[0].about, r#"{"tool":"a : b"}"#);
    assert!(silent[0].since >= MIN_LEASE_TTL && silent[0].since < MINUTE, "{silent:?}");

    for expected in [Silence::Stalled, Silence::Lost] {
        expiry(broker, &run, expected).await;
        let tellers = (0..8).map(|_| {
            let (broker, run) = (broker.clone(), run.clone());
            tokio::spawn(async move { tell_one(&*broker, &run, expected, MIN_LEASE_TTL).await })
        });
        let mut told = 0;
        for teller in tellers.collect::<Vec<_>>() {
            told += usize::from(teller.await.unwrap().is_some());
        }
        assert_eq!(told, 1, "{expected:?}");
    }
    assert!(due(broker, &run).await.is_some_and(|due| !due.is_zero()), "nothing but the other one");
    assert_eq!(types(broker, &run).await, ["x_start", "x_start", "stalled", "lost"]);
    assert_eq!(sink.messages("run:r1", 4).await, broker.history(&run, 0, 10).await.unwrap().entries);

    broker.renew(&[renewal(&run, &["a"])]).await.unwrap();
    expiry(broker, &run, Silence::Recovered).await;
    assert!(tell_one(&**broker, &run, Silence::Recovered, MINUTE).await.is_some());
    assert_eq!(tell_one(&**broker, &run, Silence::Recovered, MINUTE).await, None);
    assert!(due(broker, &run).await.is_some_and(|due| !due.is_zero()), "it stands again");
    assert_eq!(types(broker, &run).await, ["x_start", "x_start", "stalled", "lost", "recovered"]);
}

pub(in crate::broker) async fn a_real_event_takes_back_what_was_told(subject: Subject) {
    let broker = &subject.broker;
    let run = channel("run:r1");
    append_once(&**broker, &run, vec![hold("a", MIN_LEASE_TTL)], Once::No).await;
    expiry(broker, &run, Silence::Stalled).await;
    assert!(tell_one(&**broker, &run, Silence::Stalled, MINUTE).await.is_some());
    append_once(&**broker, &run, vec![hold("a", MIN_LEASE_TTL)], Once::No).await;
    assert_eq!(broker.expired_leases(&run).await.unwrap(), [], "the event says it");
    assert_eq!(tell_one(&**broker, &run, Silence::Recovered, MINUTE).await, None);
    expiry(broker, &run, Silence::Stalled).await;
    assert!(tell_one(&**broker, &run, Silence::Stalled, MIN_LEASE_TTL).await.is_some(), "and it may stall again");
    expiry(broker, &run, Silence::Lost).await;
    append_once(&**broker, &run, vec![release("a")], Once::No).await;
    assert_eq!(tell_one(&**broker, &run, Silence::Lost, MINUTE).await, None, "it has ended");
    assert_eq!(types(broker, &run).await, ["x_start", "stalled", "x_start", "stalled", "x_end"]);
}

pub(in crate::broker) async fn what_is_renewed_is_never_told(subject: Subject) {
    let broker = &subject.broker;
    let run = channel("run:r1");
    append_once(&**broker, &run, vec![hold("a", MIN_LEASE_TTL), hold("b", MIN_LEASE_TTL)], Once::No).await;
    let short = Renewal { ttl: MIN_LEASE_TTL, ..renewal(&run, &["a"]) };
    eventually("the other one has run out", async || {
        broker.renew(std::slice::from_ref(&short)).await.unwrap();
        let silent = broker.expired_leases(&run).await.unwrap();
        assert!(silent.iter().all(|silent| silent.name == "b"), "{silent:?}");
        !silent.is_empty()
    })
    .await;
    assert_eq!(tell_one(&**broker, &run, Silence::Stalled, MINUTE).await, None);
}

pub(in crate::broker) async fn what_is_not_true_is_not_told(subject: Subject) {
    let Subject { broker, sink, .. } = &subject;
    let run = channel("run:r1");
    broker.subscribe(std::slice::from_ref(&run)).await.unwrap();
    append_once(&**broker, &run, vec![hold("a", MINUTE)], Once::No).await;
    for name in ["a", "never"] {
        for expiry in [Silence::Stalled, Silence::Lost, Silence::Recovered] {
            // Between other events, as within a batch of them.
            let entries = vec![tell(name, expiry, MINUTE), entry(r#"{"type":"n"}"#), tell(name, expiry, MINUTE)];
            let ids = broker.append(&Append { channel: run.clone(), entries, once: Once::No }).await.unwrap();
            assert!(matches!(ids[..], [None, Some(_), None]), "{ids:?}");
            assert_eq!(tell_one(&**broker, &run, expiry, MINUTE).await, None);
        }
    }
    let page = broker.history(&run, 0, 100).await.unwrap();
    assert_eq!(page.entries.len(), 7);
    assert_eq!(page.head.map(|head| head.offset()), Some(7));
    assert_eq!(sink.messages("run:r1", 7).await, page.entries);
    let next = append(&**broker, &run, &[1]).await[0];
    assert!(next.continues(page.head));
}

pub(in crate::broker) async fn refuses_what_is_no_lease(subject: Subject) {
    let broker = &subject.broker;
    let run = channel("run:r1");
    let numbered = Once::Sequence { producer: "p".into(), first: 1 };
    let bad = [
        (hold("a b", MINUTE), Once::No),
        (hold("", MINUTE), Once::No),
        (hold("a", MIN_LEASE_TTL / 2), Once::No),
        (tell("a", Silence::Stalled, MINUTE), numbered),
    ];
    for (entry, once) in bad {
        let append = Append { channel: run.clone(), entries: vec![entry], once };
        let refused = broker.append(&append).await.unwrap_err();
        assert!(matches!(refused, AppendError::Refused(_)), "{refused:?}");
    }
    assert_eq!(broker.history(&run, 0, 10).await.unwrap().head, None);
}

pub(in crate::broker) async fn lost_leases_give_way_to_new_ones(subject: Subject) {
    let broker = &subject.broker;
    let run = channel("run:r1");
    let name = |n: usize| if n == 0 { "a".to_owned() } else { format!("lease:{n}") };
    let holds: Vec<Entry> =
        (0..MAX_LEASES).map(|n| hold(&name(n), if n < 2 { MIN_LEASE_TTL } else { MINUTE })).collect();
    for batch in holds.chunks(MAX_ENTRIES) {
        append_once(&**broker, &run, batch.to_vec(), Once::No).await;
    }
    expiry(broker, &run, Silence::Stalled).await;
    append_once(&**broker, &run, vec![hold("beyond", MINUTE)], Once::No).await;
    broker.renew(&[renewal(&run, &["beyond"])]).await.unwrap();
    assert!(tell_one(&**broker, &run, Silence::Stalled, MIN_LEASE_TTL).await.is_some());
    expiry(broker, &run, Silence::Lost).await;
    assert!(tell_one(&**broker, &run, Silence::Lost, MINUTE).await.is_some());
    // There is room for one now, and only for one.
    append_once(&**broker, &run, vec![hold("new", MIN_LEASE_TTL), hold("beyond", MIN_LEASE_TTL)], Once::No).await;
    let silent = async || {
        let silent = broker.expired_leases(&run).await.unwrap();
        assert!(silent.len() <= MAX_EXPIRED);
        silent.into_iter().map(|silent| silent.name).collect::<std::collections::BTreeSet<_>>()
    };
    eventually("those that ran out", async || silent().await.len() == 2).await;
    assert_eq!(silent().await.into_iter().collect::<Vec<_>>(), ["lease:1", "new"]);
}
