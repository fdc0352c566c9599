//! The transport through a gateway.

use std::{sync::Arc, time::Duration};

use crewcast_events::Kind;
use crewcast_publisher::{
    AppendError, HttpTransport, Once, Ownership, OwnershipMode, OwnershipOutcome, Publisher, Stats, Transport,
};
use serde_json::{Value, json, value::RawValue};

use crate::support::{Gateway, channel, numbered, single};

const CLOSE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn events_travel_as_lines_with_the_token_and_their_bytes() {
    let gateway = Gateway::start().await;
    let publisher = Publisher::builder().connect_http(&gateway.url, "t0ken").unwrap();
    let texts = [r#"{"type":"x", "n":1.50,"é":"\u00e9"}"#, "{\"type\":\"pretty\",\n  \"n\": 1\r\n}", r#"{"type":"x"}"#];
    for text in texts {
        publisher.publish_raw("graph:a", text).unwrap();
    }
    publisher.publish_live("graph:b", r#"{"type":"y"}"#).unwrap();
    assert_eq!(publisher.close(CLOSE).await.events, 0);
    assert_eq!(gateway.log("graph:a"), texts);
    for request in gateway.requests() {
        assert_eq!(
            (request.path.as_str(), request.headers["authorization"].as_str()),
            ("/api/v1/publish", "Bearer t0ken")
        );
    }
    let live = gateway.requests().into_iter().find(|request| request.body.contains("graph:b")).unwrap();
    assert_eq!(live.body, r#"{"channel":"graph:b","event":{"type":"y"},"live":true}"#);
}

#[tokio::test]
async fn a_batch_is_one_request_and_its_ids_come_back_in_order() {
    let gateway = Gateway::start().await;
    let transport = HttpTransport::new(&format!("{}/", gateway.url), "t").unwrap();
    let ids = transport.append(&numbered("graph:a", "p", 3, 100)).await.unwrap();
    assert_eq!(ids.iter().map(|id| id.unwrap().offset()).collect::<Vec<_>>(), (1..=100).collect::<Vec<_>>());
    let requests = gateway.requests();
    assert_eq!((requests.len(), requests[0].body.lines().count()), (1, 100));
    assert!(requests[0].body.lines().next().unwrap().contains(r#""idempotency_key":"p:3""#));
}

#[tokio::test]
async fn state_and_a_callers_key_travel_too() {
    let gateway = Gateway::start().await;
    let transport = HttpTransport::new(&gateway.url, "t").unwrap();
    let key = Once::Key { sub: "u".into(), key: "k\"1".into() };
    let mut append = single("session:s", r#"{"type":"x"}"#, key);
    for value in [Some(RawValue::from_string("{\"n\":1.50}".into()).unwrap().into()), None] {
        append.entries[0].state = Some(crewcast_publisher::State { key: "phase".into(), value });
        transport.append(&append).await.unwrap();
    }
    let bodies: Vec<String> = gateway.requests().into_iter().map(|request| request.body).collect();
    let line = |value: &str| {
        format!(
            r#"{{"channel":"session:s","event":{{"type":"x"}},"idempotency_key":"k\"1","state":{{"key":"phase","value":{value}}}}}"#
        ) + "\n"
    };
    assert_eq!(bodies, [line(r#"{"n":1.50}"#), line("null")]);
}

#[tokio::test]
async fn a_lost_answer_duplicates_nothing() {
    let gateway = Gateway::start().await;
    let publisher = Publisher::builder().connect_http(&gateway.url, "t").unwrap();
    for status in [502, 408, 500] {
        gateway.refuse_next(status, "", json!({}), true);
    }
    for n in 1..=50 {
        publisher.publish("graph:a", &json!({"n": n, "type": "x"})).unwrap();
    }
    assert_eq!(publisher.close(CLOSE).await.events, 0);
    let expected: Vec<String> = (1..=50).map(|n| format!(r#"{{"n":{n},"type":"x"}}"#)).collect();
    assert_eq!(gateway.log("graph:a"), expected);
    assert_eq!(publisher.stats(), Stats { published: 50, retried: 3, dropped: 0, ..Stats::default() });
}

#[tokio::test]
async fn refusals_carry_the_problems_detail_and_are_not_retried() {
    let gateway = Gateway::start().await;
    let transport = HttpTransport::new(&gateway.url, "s3cret").unwrap();
    for status in [400, 401, 403, 404, 413, 422] {
        gateway.refuse_next(status, "", json!({"title": "No", "detail": "the token does not grant it"}), false);
        let Err(AppendError::Refused(why)) = transport.append(&numbered("graph:a", "p", 1, 1)).await else {
            panic!("{status}")
        };
        assert!(why.contains("does not grant") && why.contains(&status.to_string()), "{why}");
        assert!(!why.contains("s3cret") && !why.contains("127.0.0.1"), "{why}");
    }
    for status in [408, 429, 500, 503, 301] {
        gateway.refuse_next(status, "", json!({}), false);
        let answer = transport.append(&numbered("graph:a", "p", 1, 1)).await;
        assert!(matches!(answer, Err(AppendError::Unavailable(_))), "{status}: {answer:?}");
    }
    gateway.refuse_next(200, "", json!({"ids": []}), false);
    let answer = transport.append(&numbered("graph:a", "p", 1, 1)).await;
    assert!(matches!(answer, Err(AppendError::Unavailable(_))), "too few ids: {answer:?}");
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let gateway = Gateway::start().await;
    let transport = HttpTransport::new(&gateway.url, "t").unwrap();
    gateway.refuse_next(429, "retry-after: 1\r\n", json!({}), false);
    let append = numbered("graph:a", "p", 1, 1);
    transport.append(&append).await.unwrap_err();
    let began = tokio::time::Instant::now();
    transport.append(&append).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_gateway_that_is_away_is_waited_for() {
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let transport = HttpTransport::new(&format!("http://127.0.0.1:{port}"), "t").unwrap();
    let answer = transport.publish_live(&channel("graph:a"), r#"{"type":"x"}"#.into()).await;
    assert_eq!(answer, Err(AppendError::Unavailable("the gateway cannot be reached".to_owned())));
}

#[tokio::test]
async fn ids_are_registered_and_a_conflict_is_another_owner() {
    let gateway = Gateway::start().await;
    let transport = HttpTransport::new(&gateway.url, "t").unwrap();
    let ownership = Ownership { kind: Kind::Run, id: "r".into(), org: "acme".into(), crew: Some("abc".into()) };
    assert_eq!(transport.register(&ownership, OwnershipMode::Keep).await, Ok(OwnershipOutcome::Done));
    let request = gateway.requests().remove(0);
    assert_eq!(request.path, "/api/v1/directory");
    let body: Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!(body, json!({"kind": "run", "id": "r", "org": "acme", "crew": "abc"}));
    gateway.refuse_next(409, "", json!({}), false);
    assert!(matches!(transport.register(&ownership, OwnershipMode::Keep).await, Ok(OwnershipOutcome::OwnedBy(_))));
    for mode in [OwnershipMode::Move, OwnershipMode::Remove] {
        assert!(matches!(transport.register(&ownership, mode).await, Err(AppendError::Refused(_))));
    }
}

#[tokio::test]
async fn a_url_or_token_that_makes_no_sense_is_an_error() {
    for (url, token) in [
        ("127.0.0.1:8000", "t"),
        ("redis://127.0.0.1", "t"),
        ("http://u:p@127.0.0.1", "t"),
        ("http://127.0.0.1/?x=1", "t"),
        ("http://127.0.0.1", "a\nb"),
    ] {
        assert!(HttpTransport::new(url, token).is_err(), "{url}");
    }
    let _publisher =
        Publisher::builder().with_transport(Arc::new(HttpTransport::new("https://example.org/x", "t").unwrap()));
}
