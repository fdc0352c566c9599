//! State documents, and the head that they reflect.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use crewcast_events::Kind;
use crewcast_store::{
    Append, AppendError, Entry, LeaseStep, MAX_ENTRIES, MAX_STATE_KEY, MIN_LEASE_TTL, Once, Ownership, OwnershipMode,
    Renewal, State, StateKeyError,
};
use serde_json::value::RawValue;

use super::{Subject, append, append_once, channel, entry, eventually, leases::hold};
use crate::broker::{MAX_DOCUMENTS, STATE_BYTES};

const MINUTE: Duration = Duration::from_secs(60);

fn document(key: &str, value: Option<&str>) -> Option<State> {
    let value = value.map(|text| RawValue::from_string(text.to_owned()).expect("JSON").into());
    Some(State { key: key.to_owned(), value })
}

fn setting(key: &str, value: Option<&str>) -> Entry {
    Entry { state: document(key, value), ..entry(r#"{"type":"x"}"#) }
}

pub(in crate::broker) async fn state_is_read_with_the_head_that_it_reflects(subject: Subject) {
    let broker = &subject.broker;
    let agents = channel("agents:acme");
    assert_eq!(broker.state(&agents, None).await.unwrap(), Default::default());
    let entries = vec![setting("b", Some("{ \"n\": 1.50 }")), setting("a", Some("[]")), setting("c", Some("1"))];
    append_once(&**broker, &agents, entries, Once::No).await;
    let last = append_once(&**broker, &agents, vec![setting("c", None), setting("é", Some("2"))], Once::No).await[1];
    let state = broker.state(&agents, None).await.unwrap();
    let expected = [("a", "[]"), ("b", "{ \"n\": 1.50 }"), ("é", "2")];
    let expected: Vec<_> = expected.map(|(key, value)| (key.to_owned(), Bytes::from(value))).into();
    assert_eq!((state.head, state.truncated, state.documents), (Some(last), false, expected));

    // Each event carries a count that the state also holds: no read ever shows one without the other.
    let writer = {
        let (broker, agents) = (broker.clone(), agents.clone());
        tokio::spawn(async move {
            for n in 6..=300u64 {
                append_once(&*broker, &agents, vec![setting("offset", Some(&n.to_string()))], Once::No).await;
            }
        })
    };
    eventually("the last event is written", async || {
        let state = broker.state(&agents, None).await.unwrap();
        let offset = state.head.unwrap().offset();
        let document = state.documents.iter().find(|(key, _)| key == "offset");
        assert_eq!(document.map_or("5".to_owned(), |(_, n)| String::from_utf8_lossy(n).into()), offset.to_string());
        offset == 300
    })
    .await;
    writer.await.unwrap();
}

pub(in crate::broker) async fn a_state_key_follows_the_rule(subject: Subject) {
    let agents = channel("agents:keys");
    let append = |key: &str| Append { channel: agents.clone(), entries: vec![setting(key, Some("1"))], once: Once::No };
    subject.broker.append(&append(&"é".repeat(MAX_STATE_KEY))).await.unwrap();
    for key in ["", "a\nb", &"k".repeat(MAX_STATE_KEY + 1)] {
        let refused = subject.broker.append(&append(key)).await.unwrap_err();
        assert_eq!(refused, AppendError::Refused(StateKeyError.to_string()), "{key:?}");
    }
}

pub(in crate::broker) async fn state_is_bounded_in_documents_and_bytes(subject: Subject) {
    let broker = &subject.broker;
    let (many, large) = (channel("agents:many"), channel("agents:large"));
    let entries: Vec<Entry> = (0..=MAX_DOCUMENTS).map(|n| setting(&format!("k{n:05}"), Some("1"))).collect();
    for batch in entries[1..].chunks(MAX_ENTRIES) {
        append_once(&**broker, &many, batch.to_vec(), Once::No).await;
    }
    let state = broker.state(&many, None).await.unwrap();
    assert_eq!((state.documents.len(), state.truncated), (MAX_DOCUMENTS, false));
    append_once(&**broker, &many, entries[..1].to_vec(), Once::No).await;
    let state = broker.state(&many, None).await.unwrap();
    assert_eq!((state.documents.len(), state.truncated), (MAX_DOCUMENTS, true));

    let value = format!("\"{}\"", "x".repeat(STATE_BYTES / 4));
    for n in 0..4 {
        append_once(&**broker, &large, vec![setting(&n.to_string(), Some(&value))], Once::No).await;
    }
    let state = broker.state(&large, None).await.unwrap();
    assert_eq!((state.documents.len(), state.truncated), (3, true));
    let huge = format!("\"{}\"", "x".repeat(2 * STATE_BYTES));
    let alone = channel("agents:alone");
    append_once(&**broker, &alone, vec![setting("k", Some(&huge))], Once::No).await;
    let state = broker.state(&alone, None).await.unwrap();
    assert_eq!((state.documents.len(), state.truncated), (1, false), "the first document is returned, however large");
}

pub(in crate::broker) async fn state_within_keeps_only_recently_renewed_documents(subject: Subject) {
    let broker = &subject.broker;
    let tracking = channel("tracking:acme");
    let session = |id: &str| Entry { state: document(id, Some("1")), ..hold(id, MIN_LEASE_TTL) };
    append_once(&**broker, &tracking, vec![session("s1"), session("s2"), setting("s3", Some("1"))], Once::No).await;
    let keys = async |within: Duration| {
        let state = broker.state(&tracking, Some(within)).await.unwrap();
        state.documents.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(keys(MINUTE).await, ["s1", "s2", "s3"], "a document that was written without a lease counts too");
    let all = broker.state(&tracking, None).await.unwrap();
    assert_eq!((all.documents.len(), all.first_end), (3, None));
    let first_end = broker.state(&tracking, Some(MINUTE)).await.unwrap().first_end.expect("all will end");
    assert!(first_end <= MINUTE && first_end > MINUTE / 2, "{first_end:?}");
    let renewal = Renewal { channel: tracking.clone(), ttl: MINUTE, names: vec![Arc::from("s2")] };
    eventually("the document whose lease is not renewed is gone", async || {
        broker.renew(std::slice::from_ref(&renewal)).await.unwrap();
        let keys = keys(2 * MIN_LEASE_TTL).await;
        assert!(keys.contains(&"s2".to_owned()));
        keys.len() == 1
    })
    .await;
    let end = Entry { lease: Some(LeaseStep::Release { name: "s2".into() }), ..setting("s2", None) };
    append_once(&**broker, &tracking, vec![end], Once::No).await;
    assert_eq!(broker.state(&tracking, None).await.unwrap().documents.len(), 2);
    let none = broker.state(&tracking, Some(2 * MIN_LEASE_TTL)).await.unwrap();
    assert_eq!((none.documents.len(), none.first_end), (0, None));
}

pub(in crate::broker) async fn a_moved_id_loses_state_and_leases(subject: Subject) {
    let broker = &subject.broker;
    let session = channel("session:s1");
    let ownership = |org: &str| Ownership { kind: Kind::Session, id: "s1".to_owned(), org: org.to_owned(), crew: None };
    broker.register(&ownership("acme"), OwnershipMode::Keep).await.unwrap();
    let head = append(&**broker, &session, &[1]).await[0];
    let started = Entry { state: document("state", Some("1")), ..hold("session:s1", MINUTE) };
    let head_then = append_once(&**broker, &session, vec![started], Once::No).await[0];
    assert!(head_then.continues(Some(head)));
    broker.register(&ownership("other"), OwnershipMode::Move).await.unwrap();
    let state = broker.state(&session, None).await.unwrap();
    assert_eq!((state.head, state.documents.len()), (Some(head_then), 0));
    assert_eq!(broker.next_lease_expiry(&[session]).await.unwrap(), [None]);
}

pub(in crate::broker) async fn a_listed_session_without_a_lease_is_renewed_with_its_document(subject: Subject) {
    let broker = &subject.broker;
    let list = channel("tracking:acme");
    let listed = async || {
        let state = broker.state(&list, Some(MINUTE)).await.unwrap();
        state.documents.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    let expiry = async || broker.next_lease_expiry(std::slice::from_ref(&list)).await.unwrap()[0];
    append_once(&**broker, &list, vec![setting("s1", Some("{}"))], Once::No).await;
    assert_eq!(listed().await, ["s1"]);
    append_once(&**broker, &list, vec![setting("s1", None)], Once::No).await;
    assert_eq!((listed().await, expiry().await), (Vec::new(), None));
    // A lease that the producer holds keeps its own ttl.
    let held = Entry { state: document("s2", Some("{}")), ..hold("s2", 10 * MINUTE) };
    append_once(&**broker, &list, vec![held, setting("s2", Some("[]"))], Once::No).await;
    assert_eq!(listed().await, ["s2"]);
    assert!(expiry().await.is_some_and(|left| left > 9 * MINUTE));
}
