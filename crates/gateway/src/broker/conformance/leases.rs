//! Leases: held, renewed, expired, reported once.

use std::{sync::Arc, time::Duration};

use crewcast_events::{Channel, EventId, catalog::lease_expiry::LeaseStatus};
use crewcast_store::{
    Append, AppendError, Entry, LeaseStep, MAX_ENTRIES, MAX_LEASES, MIN_LEASE_TTL, Once, Renewal, Transport,
};
use serde_json::value::RawValue;

use super::{Subject, WholeBroker, append, append_once, channel, entry, eventually};
use crate::broker::MAX_EXPIRED;

const MINUTE: Duration = Duration::from_secs(60);

pub(super) fn hold(name: &str, ttl: Duration) -> Entry {
    let about = RawValue::from_string(r#"{"tool":"a : b"}"#.to_owned()).expect("an object");
    let step = LeaseStep::Hold { name: name.into(), ttl, about: Some(Arc::from(about)) };
    Entry { lease: Some(step), ..entry(r#"{"type":"x_start"}"#) }
}

fn release(name: &str) -> Entry {
    Entry { lease: Some(LeaseStep::Release { name: name.into() }), ..entry(r#"{"type":"x_end"}"#) }
}

fn tell(name: &str, expiry: LeaseStatus, lost_after: Duration) -> Entry {
    let step = LeaseStep::Expire { name: name.into(), expiry, lost_after };
    Entry { lease: Some(step), ..entry(&format!(r#"{{"type":"{}"}}"#, expiry.as_str())) }
}

async fn tell_one(
    broker: &(impl Transport + ?Sized),
    channel: &Channel,
    expiry: LeaseStatus,
    lost_after: Duration,
) -> Option<EventId> {
    let append = Append { channel: channel.clone(), entries: vec![tell("a", expiry, lost_after)], once: Once::No };
    broker.append(&append).await.expect("answered")[0]
}

async fn due(broker: &Arc<dyn WholeBroker>, channel: &Channel) -> Option<Duration> {
    broker.next_lease_expiry(std::slice::from_ref(channel)).await.expect("read")[0]
}

/// Waits until the lease `a` has the status `expected` to report.
async fn until_status(broker: &Arc<dyn WholeBroker>, channel: &Channel, expected: LeaseStatus) {
    eventually(expected.as_str(), async || {
        let expired = broker.expired_leases(channel).await.expect("read");
        expired.iter().any(|expired| expired.name == "a" && expired.expiry == expected)
    })
    .await;
}

async fn types(broker: &Arc<dyn WholeBroker>, channel: &Channel) -> Vec<String> {
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
    assert!(both[1].is_some_and(|due| due <= MINUTE && due > MINUTE / 2), "the earlier of the two leases: {both:?}");
    append_once(&**broker, &run, vec![release("a")], Once::No).await;
    assert!(due(broker, &run).await.is_some_and(|due| due > MINUTE));
    append_once(&**broker, &run, vec![release("b"), release("never")], Once::No).await;
    assert_eq!(due(broker, &run).await, None);
    broker.renew(&[renewal(&run, &["a", "b"]), renewal(&other, &["a"])]).await.unwrap();
    assert_eq!(due(broker, &run).await, None, "a late renewal creates no lease");
    append_once(&**broker, &run, vec![hold("a", MINUTE), release("a")], Once::No).await;
    assert_eq!(due(broker, &run).await, None, "one append may hold and release a lease");

    // A repeated append has no effect: the release stays in force, whatever is repeated.
    let once = || Once::Sequence { producer: "p".into(), first: 1 };
    append_once(&**broker, &run, vec![hold("a", MINUTE), release("a")], once()).await;
    append_once(&**broker, &run, vec![hold("a", MINUTE)], once()).await;
    assert_eq!(due(broker, &run).await, None);
}

pub(in crate::broker) async fn a_lease_expiry_is_published_once(subject: Subject) {
    let Subject { broker, sink, .. } = &subject;
    let run = channel("run:r1");
    broker.subscribe(std::slice::from_ref(&run)).await.unwrap();
    append_once(&**broker, &run, vec![hold("a", MIN_LEASE_TTL), hold("b", MINUTE)], Once::No).await;
    until_status(broker, &run, LeaseStatus::Stalled).await;
    assert_eq!(due(broker, &run).await, Some(Duration::ZERO));
    let expired = broker.expired_leases(&run).await.unwrap();
    assert_eq!(expired.len(), 1, "the other lease has not expired: {expired:?}");
    assert_eq!(expired[0].about, r#"{"tool":"a : b"}"#);
    assert!(expired[0].since >= MIN_LEASE_TTL && expired[0].since < MINUTE, "{expired:?}");

    for expected in [LeaseStatus::Stalled, LeaseStatus::Lost] {
        until_status(broker, &run, expected).await;
        let publishers = (0..8).map(|_| {
            let (broker, run) = (broker.clone(), run.clone());
            tokio::spawn(async move { tell_one(&*broker, &run, expected, MIN_LEASE_TTL).await })
        });
        let mut published = 0;
        for publisher in publishers.collect::<Vec<_>>() {
            published += usize::from(publisher.await.unwrap().is_some());
        }
        assert_eq!(published, 1, "{expected:?}");
    }
    assert!(due(broker, &run).await.is_some_and(|due| !due.is_zero()), "only the other lease is left");
    assert_eq!(types(broker, &run).await, ["x_start", "x_start", "stalled", "lost"]);
    assert_eq!(sink.messages("run:r1", 4).await, broker.history(&run, 0, 10).await.unwrap().entries);

    broker.renew(&[renewal(&run, &["a"])]).await.unwrap();
    until_status(broker, &run, LeaseStatus::Recovered).await;
    assert!(tell_one(&**broker, &run, LeaseStatus::Recovered, MINUTE).await.is_some());
    assert_eq!(tell_one(&**broker, &run, LeaseStatus::Recovered, MINUTE).await, None);
    assert!(due(broker, &run).await.is_some_and(|due| !due.is_zero()), "the lease holds again");
    assert_eq!(types(broker, &run).await, ["x_start", "x_start", "stalled", "lost", "recovered"]);
}

pub(in crate::broker) async fn an_event_of_the_producer_replaces_a_reported_expiry(subject: Subject) {
    let broker = &subject.broker;
    let run = channel("run:r1");
    append_once(&**broker, &run, vec![hold("a", MIN_LEASE_TTL)], Once::No).await;
    until_status(broker, &run, LeaseStatus::Stalled).await;
    assert!(tell_one(&**broker, &run, LeaseStatus::Stalled, MINUTE).await.is_some());
    append_once(&**broker, &run, vec![hold("a", MIN_LEASE_TTL)], Once::No).await;
    assert_eq!(broker.expired_leases(&run).await.unwrap(), [], "the event itself shows it");
    assert_eq!(tell_one(&**broker, &run, LeaseStatus::Recovered, MINUTE).await, None);
    until_status(broker, &run, LeaseStatus::Stalled).await;
    assert!(
        tell_one(&**broker, &run, LeaseStatus::Stalled, MIN_LEASE_TTL).await.is_some(),
        "the lease may stall again"
    );
    until_status(broker, &run, LeaseStatus::Lost).await;
    append_once(&**broker, &run, vec![release("a")], Once::No).await;
    assert_eq!(tell_one(&**broker, &run, LeaseStatus::Lost, MINUTE).await, None, "the lease was released");
    assert_eq!(types(broker, &run).await, ["x_start", "stalled", "x_start", "stalled", "x_end"]);
}

pub(in crate::broker) async fn a_renewed_lease_never_expires(subject: Subject) {
    let broker = &subject.broker;
    let run = channel("run:r1");
    append_once(&**broker, &run, vec![hold("a", MIN_LEASE_TTL), hold("b", MIN_LEASE_TTL)], Once::No).await;
    let short = Renewal { ttl: MIN_LEASE_TTL, ..renewal(&run, &["a"]) };
    eventually("the other lease has expired", async || {
        broker.renew(std::slice::from_ref(&short)).await.unwrap();
        let expired = broker.expired_leases(&run).await.unwrap();
        assert!(expired.iter().all(|expired| expired.name == "b"), "{expired:?}");
        !expired.is_empty()
    })
    .await;
    assert_eq!(tell_one(&**broker, &run, LeaseStatus::Stalled, MINUTE).await, None);
}

pub(in crate::broker) async fn an_untrue_lease_status_is_not_published(subject: Subject) {
    let Subject { broker, sink, .. } = &subject;
    let run = channel("run:r1");
    broker.subscribe(std::slice::from_ref(&run)).await.unwrap();
    append_once(&**broker, &run, vec![hold("a", MINUTE)], Once::No).await;
    for name in ["a", "never"] {
        for expiry in [LeaseStatus::Stalled, LeaseStatus::Lost, LeaseStatus::Recovered] {
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

pub(in crate::broker) async fn refuses_invalid_leases(subject: Subject) {
    let broker = &subject.broker;
    let run = channel("run:r1");
    let numbered = Once::Sequence { producer: "p".into(), first: 1 };
    let bad = [
        (hold("a b", MINUTE), Once::No),
        (hold("", MINUTE), Once::No),
        (hold("a", MIN_LEASE_TTL / 2), Once::No),
        (tell("a", LeaseStatus::Stalled, MINUTE), numbered),
    ];
    for (entry, once) in bad {
        let append = Append { channel: run.clone(), entries: vec![entry], once };
        let refused = broker.append(&append).await.unwrap_err();
        assert!(matches!(refused, AppendError::Refused(_)), "{refused:?}");
    }
    assert_eq!(broker.history(&run, 0, 10).await.unwrap().head, None);
}

pub(in crate::broker) async fn lost_leases_are_dropped_for_new_ones(subject: Subject) {
    let broker = &subject.broker;
    let run = channel("run:r1");
    let name = |n: usize| if n == 0 { "a".to_owned() } else { format!("lease:{n}") };
    let holds: Vec<Entry> =
        (0..MAX_LEASES).map(|n| hold(&name(n), if n < 2 { MIN_LEASE_TTL } else { MINUTE })).collect();
    for batch in holds.chunks(MAX_ENTRIES) {
        append_once(&**broker, &run, batch.to_vec(), Once::No).await;
    }
    until_status(broker, &run, LeaseStatus::Stalled).await;
    append_once(&**broker, &run, vec![hold("beyond", MINUTE)], Once::No).await;
    broker.renew(&[renewal(&run, &["beyond"])]).await.unwrap();
    assert!(tell_one(&**broker, &run, LeaseStatus::Stalled, MIN_LEASE_TTL).await.is_some());
    until_status(broker, &run, LeaseStatus::Lost).await;
    assert!(tell_one(&**broker, &run, LeaseStatus::Lost, MINUTE).await.is_some());
    // There is room for one lease now, and only for one.
    append_once(&**broker, &run, vec![hold("new", MIN_LEASE_TTL), hold("beyond", MIN_LEASE_TTL)], Once::No).await;
    let expired = async || {
        let expired = broker.expired_leases(&run).await.unwrap();
        assert!(expired.len() <= MAX_EXPIRED);
        expired.into_iter().map(|expired| expired.name).collect::<std::collections::BTreeSet<_>>()
    };
    eventually("two leases have expired", async || expired().await.len() == 2).await;
    assert_eq!(expired().await.into_iter().collect::<Vec<_>>(), ["lease:1", "new"]);
}
